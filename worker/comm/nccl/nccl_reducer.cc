// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/nccl/nccl_reducer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep::nccl {

namespace {

// A call that NCCL takes on but has not done yet is no failure; see NcclGroup::Enqueue.
int Taken(int result) { return result == kInProgress ? kSuccess : result; }

// `leaves` sums become one, from the right to the left.
TreeProgram MergeAll(int leaves) {
  TreeProgram program{.leaves = leaves};
  program.merges[leaves - 1] = static_cast<uint8_t>(leaves - 1);
  return program;
}

}  // namespace

NcclReducer::NcclReducer(NcclGroup* group, ReduceOps* ops, ReducerOptions options)
    : group_(group),
      ops_(ops),
      options_(std::move(options)),
      rank_(group == nullptr ? 0 : group->rank()),
      size_(group == nullptr ? 1 : group->size()),
      whole_(!options_.fastest && options_.elements <= options_.whole_sum_elements),
      owned_(OwnedShards(rank_, size_, options_.shards)),
      padded_(PaddedElements(options_.elements, size_)) {}

absl::StatusOr<std::unique_ptr<NcclReducer>> NcclReducer::Create(NcclGroup* group, ReduceOps* ops,
                                                                 ReducerOptions options) {
  std::unique_ptr<NcclReducer> reducer(new NcclReducer(group, ops, std::move(options)));
  LOCKSTEP_RETURN_IF_ERROR(reducer->Build());
  return reducer;
}

absl::Status NcclReducer::Build() {
  const int depth = PlanShards();
  LOCKSTEP_RETURN_IF_ERROR(PlanTree());
  if (alone() || whole_) {
    buckets_ = {{{0, padded_}, 0}};
  } else {
    BucketOptions options = options_.buckets;
    options.ranks = size_;
    buckets_ = PlanBuckets(options_.spans, options_.elements, options);
  }
  return TakeMemory(depth);
}

int NcclReducer::PlanShards() {
  std::vector<TreeNode> stack;
  size_t depth = 0;
  for (int shard = owned_.first; shard < owned_.end; ++shard) {
    ShardStep step{.place = static_cast<int>(stack.size())};
    stack.push_back({0, shard});
    depth = std::max(depth, stack.size());
    while (stack.size() >= 2 && Siblings(stack[stack.size() - 2], stack.back())) {
      stack.pop_back();
      stack.back() = {stack.back().level + 1, stack.back().index / 2};
      ++step.merges;
    }
    steps_.push_back(step);
  }
  return static_cast<int>(depth);
}

absl::Status NcclReducer::PlanTree() {
  std::vector<TreeNode> stack;
  for (int rank = 0; rank < size_; ++rank) {
    const std::vector<TreeNode> nodes = Decompose(OwnedShards(rank, size_, options_.shards));
    first_node_.push_back(tree_.leaves);
    nodes_.push_back(static_cast<int>(nodes.size()));
    if (tree_.leaves + static_cast<int>(nodes.size()) > kMaxLeaves) {
      return absl::InvalidArgumentError(
          absl::StrCat(size_, " ranks hold more than ", kMaxLeaves, " subtrees of ", options_.shards,
                       " shards; ask for a number of workers that is a power of two, at most ", kMaxLeaves));
    }
    for (const TreeNode& node : nodes) {
      stack.push_back(node);
      uint8_t& merges = tree_.merges[tree_.leaves++];
      while (stack.size() >= 2 && Siblings(stack[stack.size() - 2], stack.back())) {
        stack.pop_back();
        stack.back() = {stack.back().level + 1, stack.back().index / 2};
        ++merges;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status NcclReducer::TakeMemory(int depth) {
  const auto take = [&](size_t bytes, auto*& to) -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(void* const data, ops_->Allocate(bytes));
    to = static_cast<std::remove_reference_t<decltype(to)>>(data);
    return absl::OkStatus();
  };
  const auto floats = static_cast<size_t>(padded_) * sizeof(float);
  const auto scalars = static_cast<size_t>(options_.scalars) * sizeof(double);
  places_.resize(static_cast<size_t>(depth));
  for (float*& place : places_) LOCKSTEP_RETURN_IF_ERROR(take(floats, place));
  LOCKSTEP_RETURN_IF_ERROR(take(scalars * static_cast<size_t>(depth), place_scalars_));
  LOCKSTEP_RETURN_IF_ERROR(take(sizeof(double), flag_));
  if (alone()) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(take(scalars, scalar_sums_));
  LOCKSTEP_RETURN_IF_ERROR(take(scalars * static_cast<size_t>(tree_.leaves), received_scalars_));
  if (options_.fastest) return absl::OkStatus();
  const auto others = static_cast<size_t>(tree_.leaves - nodes_[static_cast<size_t>(rank_)]);
  return take(others * floats / (whole_ ? 1 : static_cast<size_t>(size_)), received_);
}

float* NcclReducer::shard_gradient() const { return places_[static_cast<size_t>(steps_[next_].place)]; }

double* NcclReducer::shard_scalars() const { return place_scalars_ + steps_[next_].place * options_.scalars; }

float* NcclReducer::sum() const { return places_[0]; }

const double* NcclReducer::scalar_sums() const { return alone() ? place_scalars_ : scalar_sums_; }

const double* NcclReducer::not_finite() const {
  return options_.shards == 1 || (options_.fastest && !alone()) ? nullptr : flag_;
}

absl::Status NcclReducer::Await(const std::function<absl::StatusOr<bool>()>& reached) {
  return group_ == nullptr ? absl::OkStatus() : group_->Await("to run steps", reached);
}

void NcclReducer::set_release(std::function<void()> release) {
  if (group_ != nullptr) group_->set_release(std::move(release));
}

ElementRange NcclReducer::SliceIn(const ElementRange& range, int rank) const {
  if (whole_) return range;
  const int64_t count = range.count / size_;
  return {range.first + rank * count, count};
}

float* NcclReducer::Received(int peer, int node, const ElementRange& slice) const {
  int number = first_node_[static_cast<size_t>(peer)] + node;
  if (peer > rank_) number -= nodes_[static_cast<size_t>(rank_)];
  // Slices of one size lie behind each other as their buckets do.
  const int64_t stride = whole_ ? padded_ : padded_ / size_;
  const int64_t first = whole_ ? slice.first : (slice.first - rank_ * slice.count) / size_;
  return received_ + number * stride + first;
}

void NcclReducer::Merge(Lane lane, const ElementRange& range) {
  const ShardStep& step = steps_[next_];
  if (step.merges == 0) return;
  TreeAdd<float> add{.program = MergeAll(step.merges + 1)};
  for (int i = 0; i <= step.merges; ++i) {
    add.leaves[i] = places_[static_cast<size_t>(step.place - step.merges + i)] + range.first;
  }
  add.out = places_[static_cast<size_t>(step.place - step.merges)] + range.first;
  add.count = range.count;
  // Only what a single rank has in the end is the sum.
  if (alone() && last_shard()) add.not_finite = flag_;
  ops_->Add(lane, add);
}

void NcclReducer::MergeScalars(Lane lane) {
  const ShardStep& step = steps_[next_];
  if (step.merges == 0 || options_.scalars == 0) return;
  TreeAdd<double> add{.program = MergeAll(step.merges + 1)};
  for (int i = 0; i <= step.merges; ++i) {
    add.leaves[i] = place_scalars_ + (step.place - step.merges + i) * options_.scalars;
  }
  add.out = place_scalars_ + (step.place - step.merges) * options_.scalars;
  add.count = options_.scalars;
  ops_->Add(lane, add);
}

void NcclReducer::LayerDone(int layer) {
  if (alone() || !last_shard() || !deferred_.ok()) return;
  deferred_ = Release(layer, /*all=*/false);
}

absl::Status NcclReducer::CommitShard() {
  LOCKSTEP_RETURN_IF_ERROR(deferred_);
  if (!alone() && last_shard()) {
    LOCKSTEP_RETURN_IF_ERROR(Release(0, /*all=*/true));
  } else {
    if (alone() && next_ == 0) ops_->Zero(Lane::kCompute, flag_, sizeof(double));
    Merge(Lane::kCompute, {0, padded_});
    MergeScalars(Lane::kCompute);
  }
  ++next_;
  return absl::OkStatus();
}

absl::Status NcclReducer::Finish() {
  LOCKSTEP_RETURN_IF_ERROR(deferred_);
  next_ = released_ = 0;
  if (!alone()) ops_->Order(Lane::kReduce, Lane::kCompute);
  return absl::OkStatus();
}

// The last bucket waits for the scalars, which go with it.
absl::Status NcclReducer::Release(int layer, bool all) {
  bool ordered = false;
  while (released_ < buckets_.size()) {
    const Bucket& bucket = buckets_[released_];
    const bool last = released_ + 1 == buckets_.size();
    if (!all && (last || bucket.layer < layer)) break;
    if (!std::exchange(ordered, true)) ops_->Order(Lane::kCompute, Lane::kReduce);
    if (released_++ == 0) ops_->Zero(Lane::kReduce, flag_, sizeof(double));
    Merge(Lane::kReduce, bucket.range);
    if (last) MergeScalars(Lane::kReduce);
    LOCKSTEP_RETURN_IF_ERROR(Reduce(bucket, last));
  }
  return absl::OkStatus();
}

absl::Status NcclReducer::Reduce(const Bucket& bucket, bool last) {
  const bool with_scalars = last && options_.scalars > 0;
  if (options_.fastest) {
    LOCKSTEP_RETURN_IF_ERROR(AllReduce(bucket.range));
    if (with_scalars) LOCKSTEP_RETURN_IF_ERROR(Exchange(bucket.range, false, true));
  } else {
    LOCKSTEP_RETURN_IF_ERROR(Exchange(bucket.range, true, with_scalars));
    AddSlice(bucket.range);
    if (!whole_) LOCKSTEP_RETURN_IF_ERROR(Gather(bucket.range, last));
  }
  if (with_scalars) AddScalars();
  return absl::OkStatus();
}

absl::Status NcclReducer::Exchange(const ElementRange& range, bool with_gradient, bool with_scalars) {
  return group_->Enqueue("to exchange gradients", [&](Comm comm) {
    int result = kSuccess;
    // Begins with the next rank, so that not all send to the first one at once.
    for (int i = 1; i < size_ && result == kSuccess; ++i) {
      const int to = (rank_ + i) % size_, from = (rank_ + size_ - i) % size_;
      result = SendTo(to, range, with_gradient, with_scalars, comm);
      if (result == kSuccess) result = ReceiveFrom(from, range, with_gradient, with_scalars, comm);
    }
    return result;
  });
}

int NcclReducer::SendTo(int peer, const ElementRange& range, bool with_gradient, bool with_scalars, Comm comm) {
  const NcclApi& api = group_->api();
  const Stream stream = ops_->stream(Lane::kReduce);
  const int nodes = nodes_[static_cast<size_t>(rank_)];
  const ElementRange slice = SliceIn(range, peer);
  int result = kSuccess;
  for (int i = 0; i < nodes && with_gradient && result == kSuccess; ++i) {
    result = Taken(api.Send(places_[static_cast<size_t>(i)] + slice.first, static_cast<size_t>(slice.count), kFloat32,
                            peer, comm, stream));
  }
  if (result != kSuccess || !with_scalars) return result;
  return Taken(api.Send(place_scalars_, static_cast<size_t>(nodes * options_.scalars), kFloat64, peer, comm, stream));
}

int NcclReducer::ReceiveFrom(int peer, const ElementRange& range, bool with_gradient, bool with_scalars, Comm comm) {
  const NcclApi& api = group_->api();
  const Stream stream = ops_->stream(Lane::kReduce);
  const int nodes = nodes_[static_cast<size_t>(peer)];
  const ElementRange slice = SliceIn(range, rank_);
  int result = kSuccess;
  for (int i = 0; i < nodes && with_gradient && result == kSuccess; ++i) {
    result = Taken(api.Recv(Received(peer, i, slice), static_cast<size_t>(slice.count), kFloat32, peer, comm, stream));
  }
  if (result != kSuccess || !with_scalars) return result;
  double* const to = received_scalars_ + first_node_[static_cast<size_t>(peer)] * options_.scalars;
  return Taken(api.Recv(to, static_cast<size_t>(nodes * options_.scalars), kFloat64, peer, comm, stream));
}

void NcclReducer::AddSlice(const ElementRange& range) {
  const ElementRange slice = SliceIn(range, rank_);
  TreeAdd<float> add{.program = tree_};
  for (int rank = 0; rank < size_; ++rank) {
    for (int i = 0; i < nodes_[static_cast<size_t>(rank)]; ++i) {
      add.leaves[first_node_[static_cast<size_t>(rank)] + i] =
          rank == rank_ ? places_[static_cast<size_t>(i)] + slice.first : Received(rank, i, slice);
    }
  }
  add.out = places_[0] + slice.first;
  add.count = slice.count;
  add.not_finite = flag_;
  ops_->Add(Lane::kReduce, add);
}

void NcclReducer::AddScalars() {
  TreeAdd<double> add{.program = tree_};
  for (int rank = 0; rank < size_; ++rank) {
    for (int i = 0; i < nodes_[static_cast<size_t>(rank)]; ++i) {
      const int number = first_node_[static_cast<size_t>(rank)] + i;
      add.leaves[number] =
          rank == rank_ ? place_scalars_ + i * options_.scalars : received_scalars_ + number * options_.scalars;
    }
  }
  add.out = scalar_sums_;
  add.count = options_.scalars;
  ops_->Add(Lane::kReduce, add);
}

absl::Status NcclReducer::Gather(const ElementRange& range, bool with_flag) {
  return group_->Enqueue("to gather the sums", [&](Comm comm) {
    const NcclApi& api = group_->api();
    const Stream stream = ops_->stream(Lane::kReduce);
    const ElementRange slice = SliceIn(range, rank_);
    // In place.
    const int result = Taken(api.AllGather(places_[0] + slice.first, places_[0] + range.first,
                                           static_cast<size_t>(slice.count), kFloat32, comm, stream));
    // Each rank has looked at its slices alone.
    if (result != kSuccess || !with_flag) return result;
    return Taken(api.AllReduce(flag_, flag_, 1, kFloat64, kMax, comm, stream));
  });
}

absl::Status NcclReducer::AllReduce(const ElementRange& range) {
  const int nodes = nodes_[static_cast<size_t>(rank_)];
  if (nodes > 1) {
    TreeAdd<float> add{.program = MergeAll(nodes)};
    for (int i = 0; i < nodes; ++i) add.leaves[i] = places_[static_cast<size_t>(i)] + range.first;
    add.out = places_[0] + range.first;
    add.count = range.count;
    ops_->Add(Lane::kReduce, add);
  }
  return group_->Enqueue("to sum gradients", [&](Comm comm) {
    return Taken(group_->api().AllReduce(places_[0] + range.first, places_[0] + range.first,
                                         static_cast<size_t>(range.count), kFloat32, kSum, comm,
                                         ops_->stream(Lane::kReduce)));
  });
}

}  // namespace lockstep::nccl
