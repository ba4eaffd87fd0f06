// SPDX-License-Identifier: Apache-2.0
// NcclReducer: the sum of V shard gradients over the GPUs of a group, along the tree of tree_reduce.h and with its
// bits, or as NCCL finds fastest. All of it is enqueued and nothing waits, so that a whole step can be recorded as a
// graph.
//
// A bucket of the gradient is reduced while backward computes the next: each rank sends every other one its slice of
// each of its subtrees (grouped sends and receives), adds its own slice of all subtrees in the tree's order with one
// kernel, and the slices are gathered. Small gradients are sent whole, and each rank adds all by itself.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/buckets.h"
#include "worker/comm/nccl/nccl_group.h"
#include "worker/comm/nccl/reduce_ops.h"
#include "worker/comm/reducer.h"
#include "worker/comm/tree_plan.h"

namespace lockstep::nccl {

struct ReducerOptions {
  // V; a power of two, at least the group's size.
  int shards = 1;
  // Floats of a gradient, at least 1.
  int64_t elements = 0;
  // Doubles that ride along and are added in the same tree, also where `fastest`.
  int scalars = 0;
  // Where layers write; empty: nothing is known of it, and all is one bucket.
  std::vector<GradientSpan> spans;
  BucketOptions buckets;
  // By ncclAllReduce: other bits, which may differ from run to run.
  bool fastest = false;
  // Gradients of more floats are summed in slices (tree_reduce.h: kWholeSumElements). Not measured on GPUs yet.
  int64_t whole_sum_elements = 128 * 1024;
};

// Of one thread. After an error only the destructor may follow.
class NcclReducer final : public EnqueuedReducer {
 public:
  // `group` and `ops` outlive the reducer; takes memory of `ops`: gradients for as many subtrees as the rank holds at
  // once, and what comes from other ranks. A null group: there is one rank. Every rank makes the same reducers in the
  // same order. RESOURCE_EXHAUSTED where memory is short, INVALID_ARGUMENT where there are more than kMaxLeaves
  // subtrees.
  static absl::StatusOr<std::unique_ptr<NcclReducer>> Create(NcclGroup* group, ReduceOps* ops, ReducerOptions options);

  // Where the next owned shard's gradient is to be written by the compute lane: `elements` floats, which are what
  // an earlier shard left there. Behind them lies room up to PaddedElements, zero at first, which stays as it is.
  // The same address for the same shard of every step.
  float* shard_gradient() const override;
  // Doubles of the shard, likewise; not zeroed.
  double* shard_scalars() const override;

  // During the backward of the rank's last shard, once the calls of this layer and of all behind it are enqueued:
  // reduces what is complete. Optional; an error is given out by Finish.
  void LayerDone(int layer);
  // The shard is enqueued, its scalars too.
  absl::Status CommitShard() override;
  // After the last owned shard: what is on the compute lane from now on finds the sums. They hold until the next
  // step's first shard is written.
  absl::Status Finish() override;

  // On the device. The sum may be changed.
  float* sum() const override;
  const double* scalar_sums() const override;
  // 0: there is neither an infinity nor a NaN in the sum, on any rank. Null: nobody has looked, as nothing was added,
  // or NCCL added it.
  const double* not_finite() const override;
  absl::Status Await(const std::function<absl::StatusOr<bool>()>& reached) override;
  void set_release(std::function<void()> release) override;

  // In the order in which they are reduced.
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  // What becomes of an owned shard: its place, and how many sums it completes.
  struct ShardStep {
    int place = 0;
    int merges = 0;
  };

  NcclReducer(NcclGroup* group, ReduceOps* ops, ReducerOptions options);
  absl::Status Build();
  // Returns how many sums are held at once.
  int PlanShards();
  absl::Status PlanTree();
  absl::Status TakeMemory(int depth);
  // Rank `rank`'s part of the range.
  ElementRange SliceIn(const ElementRange& range, int rank) const;
  // Where the slice of a subtree of another rank lies.
  float* Received(int peer, int node, const ElementRange& slice) const;

  bool alone() const { return size_ == 1; }
  bool last_shard() const { return next_ + 1 == steps_.size(); }
  // Adds the newest shard to what it completes, inside of the range.
  void Merge(Lane lane, const ElementRange& range);
  void MergeScalars(Lane lane);
  // Buckets that are complete; all: the rest.
  absl::Status Release(int layer, bool all);
  absl::Status Reduce(const Bucket& bucket, bool last);
  absl::Status Exchange(const ElementRange& range, bool with_gradient, bool with_scalars);
  // The operations of Exchange with one other rank.
  int SendTo(int peer, const ElementRange& range, bool with_gradient, bool with_scalars, Comm comm);
  int ReceiveFrom(int peer, const ElementRange& range, bool with_gradient, bool with_scalars, Comm comm);
  void AddSlice(const ElementRange& range);
  void AddScalars();
  absl::Status Gather(const ElementRange& range, bool with_flag);
  absl::Status AllReduce(const ElementRange& range);

  NcclGroup* const group_;
  ReduceOps* const ops_;
  const ReducerOptions options_;
  const int rank_;
  const int size_;
  const bool whole_;
  const ShardRange owned_;
  const int64_t padded_;
  std::vector<Bucket> buckets_;
  // Subtrees of each rank, and the number of the rank's first one among all.
  std::vector<int> nodes_, first_node_;
  std::vector<ShardStep> steps_;
  // Of all subtrees, for the sum over ranks.
  TreeProgram tree_;

  // Gradients and scalars at each depth; after the last shard, of each of the rank's subtrees.
  std::vector<float*> places_;
  double* place_scalars_ = nullptr;
  // What came from other ranks, by the number of the subtree.
  float* received_ = nullptr;
  double* received_scalars_ = nullptr;
  double* scalar_sums_ = nullptr;
  double* flag_ = nullptr;

  size_t next_ = 0;
  size_t released_ = 0;
  absl::Status deferred_;
};

}  // namespace lockstep::nccl
