// SPDX-License-Identifier: Apache-2.0
// Plan, fixed when the reducer is made:
//   1. Each rank adds its shards into the aligned subtrees it owns (a stack; siblings merge).
//   2. Elements are cut into one slice a rank. Each rank sends every peer that peer's slice of each of
//      its subtrees, and all of its scalars.
//   3. Each rank adds its slice in tree order, and sends the sum to every peer.
// 2 (N - 1) / N of the buffer per rank and subtree, what a ring costs.
#include "worker/comm/tree_reduce.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace lockstep {

namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kLine = kAlignment / sizeof(float);

template <typename T>
struct AlignedDelete {
  void operator()(T* p) const { ::operator delete[](p, std::align_val_t{kAlignment}); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete<T>>;

template <typename T>
AlignedArray<T> MakeAligned(size_t count) {
  T* p = static_cast<T*>(::operator new[](std::max<size_t>(count, 1) * sizeof(T), std::align_val_t{kAlignment}));
  std::fill_n(p, count, T{});
  return AlignedArray<T>(p);
}

// left += right. The caller's tree gives the order; lanes are independent, so vectorising changes no bit.
template <typename T>
void AddInto(T* __restrict left, const T* __restrict right, int64_t n) {
  for (int64_t i = 0; i < n; ++i) left[i] += right[i];
}

// One complete subtree: where its sum over a slice of the elements lies, and its scalars.
struct Partial {
  TreeNode node;
  float* values = nullptr;
  double* scalars = nullptr;
};

bool Siblings(const TreeNode& left, const TreeNode& right) {
  return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

}  // namespace

ShardRange OwnedShards(int rank, int size, int shards) {
  const auto bound = [&](int64_t r) { return static_cast<int>(r * shards / size); };
  return {bound(rank), bound(rank + 1)};
}

std::vector<TreeNode> Decompose(ShardRange range) {
  std::vector<TreeNode> nodes;
  int first = range.first;
  while (first < range.end) {
    int level = first == 0 ? 30 : std::countr_zero(static_cast<unsigned>(first));
    while ((int64_t{first} + (int64_t{1} << level)) > range.end) --level;
    nodes.push_back({level, first >> level});
    first += 1 << level;
  }
  return nodes;
}

class TreeReducer::Impl {
 public:
  Impl(Communicator* communicator, int shards, int64_t elements, int scalars)
      : communicator_(communicator),
        rank_(communicator->rank()),
        size_(communicator->size()),
        elements_(elements),
        scalars_(scalars),
        owned_(OwnedShards(rank_, size_, shards)) {
    PlanStack();
    if (size_ > 1) PlanMessages(shards);
    next_shard_ = owned_.first;
  }

  std::span<float> shard_gradient() { return {gradient_buffers_[stack_.size()].get(), static_cast<size_t>(elements_)}; }
  std::span<double> shard_scalars() {
    std::span<double> s(ScalarBuffer(stack_.size()), static_cast<size_t>(scalars_));
    if (fresh_) std::ranges::fill(s, 0.0);
    fresh_ = false;
    return s;
  }

  void CommitShard() {
    const size_t top = stack_.size();
    stack_.push_back({{0, next_shard_++}, gradient_buffers_[top].get(), ScalarBuffer(top)});
    fresh_ = true;
    MergeTop(stack_, elements_);
  }

  absl::Status Finish() {
    absl::Status status;
    if (size_ > 1) status = ReduceAcrossRanks();
    std::copy_n(size_ > 1 ? root_scalars_ : stack_.front().scalars, scalars_, sums_.begin());
    stack_.clear();
    next_shard_ = owned_.first;
    fresh_ = true;
    return status;
  }

  std::span<float> sum() { return {gradient_buffers_[0].get(), static_cast<size_t>(elements_)}; }
  std::span<const double> scalar_sums() const { return sums_; }

 private:
  struct Slice {
    int64_t first = 0;
    int64_t count = 0;
  };

  // Boundaries fall on cache lines.
  Slice SliceOf(int rank) const {
    const int64_t lines = (elements_ + kLine - 1) / kLine;
    const int64_t first = std::min(elements_, lines * rank / size_ * kLine);
    const int64_t end = std::min(elements_, lines * (rank + 1) / size_ * kLine);
    return {first, end - first};
  }

  double* ScalarBuffer(size_t position) { return scalar_buffer_.get() + position * static_cast<size_t>(scalars_); }

  // Merges the last two partials while they are siblings: the left one becomes the parent.
  void MergeTop(std::vector<Partial>& stack, int64_t count) const {
    while (stack.size() >= 2 && Siblings(stack[stack.size() - 2].node, stack.back().node)) {
      Partial& left = stack[stack.size() - 2];
      AddInto(left.values, stack.back().values, count);
      AddInto(left.scalars, stack.back().scalars, scalars_);
      left.node = {left.node.level + 1, left.node.index / 2};
      stack.pop_back();
    }
  }

  // Finds out how deep the stack gets, and takes one buffer for each place.
  void PlanStack() {
    std::vector<TreeNode> nodes;
    size_t depth = 1;
    for (int shard = owned_.first; shard < owned_.end; ++shard) {
      nodes.push_back({0, shard});
      depth = std::max(depth, nodes.size());
      while (nodes.size() >= 2 && Siblings(nodes[nodes.size() - 2], nodes.back())) {
        nodes.pop_back();
        nodes.back() = {nodes.back().level + 1, nodes.back().index / 2};
      }
    }
    for (size_t i = 0; i < depth; ++i) gradient_buffers_.push_back(MakeAligned<float>(elements_));
    scalar_buffer_ = MakeAligned<double>(depth * static_cast<size_t>(scalars_));
    stack_.reserve(depth);
    sums_.resize(static_cast<size_t>(scalars_));
  }

  static std::span<std::byte> Bytes(void* p, size_t bytes) { return {static_cast<std::byte*>(p), bytes}; }

  void PlanMessages(int shards) {
    const size_t my_nodes = Decompose(owned_).size();
    const Slice mine = SliceOf(rank_);
    size_t total_nodes = 0;
    for (int r = 0; r < size_; ++r) total_nodes += Decompose(OwnedShards(r, size_, shards)).size();
    const int64_t stride = (mine.count + kLine - 1) / kLine * kLine;
    received_ = MakeAligned<float>(static_cast<size_t>(stride) * (total_nodes - my_nodes));
    received_scalars_ = MakeAligned<double>(total_nodes * static_cast<size_t>(scalars_));
    merge_.reserve(total_nodes);
    size_t slot = 0, scalar_slot = 0;
    for (int peer = 0; peer < size_; ++peer) {
      const std::vector<TreeNode> nodes = Decompose(OwnedShards(peer, size_, shards));
      const size_t first_scalar = scalar_slot;
      for (size_t i = 0; i < nodes.size(); ++i, ++scalar_slot) {
        double* scalars = received_scalars_.get() + scalar_slot * static_cast<size_t>(scalars_);
        float* values = peer == rank_ ? gradient_buffers_[i].get() + mine.first
                                      : received_.get() + static_cast<int64_t>(slot++) * stride;
        leaves_.push_back({nodes[i], values, scalars});
        if (peer != rank_) receives_.push_back({peer, Bytes(values, mine.count * sizeof(float))});
      }
      double* peer_scalars = received_scalars_.get() + first_scalar * static_cast<size_t>(scalars_);
      const size_t scalar_bytes = nodes.size() * static_cast<size_t>(scalars_) * sizeof(double);
      if (peer == rank_) {
        my_scalars_ = peer_scalars;
        my_scalar_count_ = nodes.size() * static_cast<size_t>(scalars_);
        continue;
      }
      receives_.push_back({peer, Bytes(peer_scalars, scalar_bytes)});
      const Slice theirs = SliceOf(peer);
      for (size_t i = 0; i < my_nodes; ++i) {
        sends_.push_back({peer, Bytes(gradient_buffers_[i].get() + theirs.first, theirs.count * sizeof(float))});
      }
      sends_.push_back({peer, Bytes(scalar_buffer_.get(), my_nodes * static_cast<size_t>(scalars_) * sizeof(double))});
      gather_sends_.push_back({peer, Bytes(gradient_buffers_[0].get() + mine.first, mine.count * sizeof(float))});
      gather_receives_.push_back(
          {peer, Bytes(gradient_buffers_[0].get() + theirs.first, theirs.count * sizeof(float))});
    }
  }

  absl::Status ReduceAcrossRanks() {
    std::copy_n(scalar_buffer_.get(), my_scalar_count_, my_scalars_);
    if (absl::Status s = communicator_->Exchange(sends_, receives_); !s.ok()) return s;
    const Slice mine = SliceOf(rank_);
    merge_.clear();
    for (const Partial& leaf : leaves_) {
      merge_.push_back(leaf);
      MergeTop(merge_, mine.count);
    }
    root_scalars_ = merge_.front().scalars;
    float* to = gradient_buffers_[0].get() + mine.first;
    if (merge_.front().values != to) std::memcpy(to, merge_.front().values, mine.count * sizeof(float));
    return communicator_->Exchange(gather_sends_, gather_receives_);
  }

  Communicator* communicator_;
  int rank_;
  int size_;
  int64_t elements_;
  int scalars_;
  ShardRange owned_;
  int next_shard_ = 0;
  bool fresh_ = true;

  // Place i of the stack adds into buffer i.
  std::vector<AlignedArray<float>> gradient_buffers_;
  AlignedArray<double> scalar_buffer_;
  std::vector<Partial> stack_;
  std::vector<double> sums_;

  AlignedArray<float> received_;
  AlignedArray<double> received_scalars_;
  // This rank's place in received_scalars_.
  double* my_scalars_ = nullptr;
  size_t my_scalar_count_ = 0;
  double* root_scalars_ = nullptr;
  // Every rank's subtrees, left to right.
  std::vector<Partial> leaves_;
  std::vector<Partial> merge_;
  std::vector<Message> sends_, receives_, gather_sends_, gather_receives_;
};

TreeReducer::TreeReducer(Communicator* communicator, int shards, int64_t elements, int scalars)
    : impl_(std::make_unique<Impl>(communicator, shards, elements, scalars)) {}
TreeReducer::~TreeReducer() = default;
std::span<float> TreeReducer::shard_gradient() { return impl_->shard_gradient(); }
std::span<double> TreeReducer::shard_scalars() { return impl_->shard_scalars(); }
void TreeReducer::CommitShard() { impl_->CommitShard(); }
absl::Status TreeReducer::Finish() { return impl_->Finish(); }
std::span<float> TreeReducer::sum() { return impl_->sum(); }
std::span<const double> TreeReducer::scalar_sums() const { return impl_->scalar_sums(); }

}  // namespace lockstep
