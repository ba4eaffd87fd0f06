// SPDX-License-Identifier: Apache-2.0
// NcclGroup: the ranks of one generation on their GPUs. No call waits inside NCCL, where a dead peer would hold it for
// ever: every wait is here, with a deadline, and looks for what went wrong elsewhere.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "worker/comm/nccl/nccl_api.h"

namespace lockstep::nccl {

struct GroupOptions {
  int rank = 0;
  int size = 1;
  // How long one wait may take: a peer that computes a large step is silent for its length.
  std::chrono::milliseconds timeout{600'000};
  // Outlives the group.
  const Clock* clock = nullptr;
  // Becomes true: as Abort, also while the ranks still meet. Outlives the group; null: nobody asks.
  const std::atomic<bool>* given_up = nullptr;
  // Between two looks; null: lets others run, and sleeps a moment after many. For tests.
  std::function<void()> pause;
};

class NcclGroup {
 public:
  // What a generation meets under: made by rank 0, handed out by the coordinator.
  static absl::StatusOr<std::string> MakeId(const NcclApi& api);

  // Meets the other ranks; the thread's GPU is the rank's. `api` outlives the group. DEADLINE_EXCEEDED where not all
  // came, INVALID_ARGUMENT where the id is none, else what NCCL says, each with what to do.
  static absl::StatusOr<std::unique_ptr<NcclGroup>> Join(const NcclApi* api, const std::string& id,
                                                         GroupOptions options);
  // Aborts what still goes on. Close it before where all went well.
  ~NcclGroup();

  int rank() const { return options_.rank; }
  int size() const { return options_.size; }
  const NcclApi& api() const { return *api_; }

  // `calls` enqueues operations, which NCCL takes as one; it gives the first result that is not kSuccess. Every rank
  // enqueues matching groups in the same order. `what` is for people: "the sum of gradients". After an error the group
  // is aborted.
  absl::Status Enqueue(const char* what, absl::FunctionRef<int(Comm)> calls);
  // Waits until `done` on the stream, for which it must not wait itself.
  absl::Status Await(const char* what, absl::FunctionRef<absl::StatusOr<bool>()> done);
  // What went wrong since: of this rank, or of a peer as far as NCCL knows.
  absl::Status Check(const char* what);

  // Makes all that goes on, on the GPU too, end with ABORTED. Any thread, any number of times. Where operations were
  // recorded in graphs, it waits until those are destroyed.
  void Abort();
  // Destroys such graphs: called, on the thread of all other calls, before one of those aborts by itself.
  void set_release(std::function<void()> release) { release_ = std::move(release); }
  bool aborted() const { return aborted_.load(std::memory_order_relaxed); }

  // Waits for the last operations and takes the group apart, together with the others.
  absl::Status Close();

 private:
  NcclGroup(const NcclApi* api, GroupOptions options);
  absl::Status Meet(const UniqueId& id);
  // Until NCCL has taken on what it was told.
  absl::Status Settle(const char* what, int result);
  // Looks once; kInProgress: it goes on.
  int Look();
  absl::Status Failed(const char* what, int result);
  absl::Status TimedOut(const char* what);
  absl::Status Aborted(const char* what) const;
  bool given_up() const { return aborted() || (options_.given_up != nullptr && *options_.given_up); }
  void Pause(int looks) const;
  // As Abort, by a call which finds that there is nothing else to do.
  void GiveUp();

  const NcclApi* const api_;
  const GroupOptions options_;
  std::function<void()> release_;
  std::atomic<bool> aborted_{false};
  // Held for each call, none of which waits, so that Abort never meets one under way.
  std::mutex mutex_;
  Comm comm_ = nullptr;
};

}  // namespace lockstep::nccl
