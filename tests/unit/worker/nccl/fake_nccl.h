// SPDX-License-Identifier: Apache-2.0
// A group of GPUs that records what is asked of it and then plays it on the host: NcclApi and ReduceOps of several
// ranks, used by one thread. Nothing is done when it is enqueued, as on a GPU; Play does it, lane by lane, and says
// where it would hang.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/nccl/nccl_api.h"
#include "worker/comm/nccl/reduce_ops.h"

namespace lockstep::nccl {

// One thing that was asked of NCCL.
struct Operation {
  enum class Kind { kSend, kReceive, kAllGather, kAllReduce };
  Kind kind = Kind::kSend;
  int peer = 0;
  const void* from = nullptr;
  void* to = nullptr;
  size_t count = 0;
  int type = kFloat32;
  int op = kSum;
};

// One thing on a lane: operations that are one for NCCL, or a deed of this lane alone.
struct Entry {
  std::string text;
  std::vector<Operation> group;
  // False: it has to wait.
  std::function<bool()> deed;
};

// As an in-order stream of one rank's GPU.
using LaneQueue = std::deque<Entry>;

class FakeGpus {
 public:
  // One at a time: NCCL's functions have no place for a context.
  explicit FakeGpus(int size);
  ~FakeGpus();

  int size() const { return static_cast<int>(ranks_.size()); }
  static const NcclApi& Api();
  ReduceOps& ops(int rank);
  // What the rank enqueued, on both lanes, in order.
  std::vector<std::string>& log(int rank);
  // A deed of the test's own.
  void Enqueue(int rank, Lane lane, const std::string& text, std::function<void()> deed);
  // Does all that was enqueued. INTERNAL where ranks would wait for each other for ever, or do not match.
  absl::Status Play();

  // What NCCL answers: for tests of failures.
  int init_result = kInProgress;
  int call_result = kSuccess;
  int async_error = kSuccess;
  // So often CommGetAsyncError says kInProgress before.
  int busy_looks = 0;
  int aborts = 0;
  // Within CommAbort.
  std::function<void()> on_abort;
  int destroyed = 0;
  // Whoever looks whether a mark is reached finds all done.
  bool plays_when_asked = false;
  // Bytes of each rank's GPU.
  size_t memory = SIZE_MAX;

 private:
  friend struct FakeCalls;
  class Rank;

  // What the ranks' next entries for NCCL are; null: another entry comes first, or none.
  std::vector<Entry*> OpenGroups();
  bool PlayDeeds();
  bool PlayMessages(const std::vector<Entry*>& open);
  bool PlayCollectives(const std::vector<Entry*>& open);
  bool Mismatch(const std::string& what);

  std::vector<std::unique_ptr<Rank>> ranks_;
  absl::Status mismatch_;
  // Between GroupStart and GroupEnd.
  std::vector<Operation> group_;
  LaneQueue* group_lane_ = nullptr;
  int group_rank_ = 0;
};

}  // namespace lockstep::nccl
