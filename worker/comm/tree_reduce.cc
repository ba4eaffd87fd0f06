// SPDX-License-Identifier: Apache-2.0
// Plan, fixed when the reducer is made:
//   1. Each rank adds its shards into the aligned subtrees it owns (a stack; siblings merge). What is left of them in
//      the end lies in a window that the host's ranks share.
//   2. Elements are cut into one slice a rank. A peer of this host is read where it is; to every other one goes a
//      message with its slice of each of the subtrees, and all scalars.
//   3. Each rank adds its slice in tree order, in its own first subtree's place.
//   4. Who needs more than the slice copies the others', or gets them in messages.
// 2 (N - 1) / N of the buffer per rank and subtree between hosts, what a ring costs; inside a host nothing is copied
// before step 4.
//
// Small gradients on one host: each rank adds all elements by itself. Then steps alternate between two windows, so
// that one wait a step is enough: who has come to the next step's wait has read all of this step's.
#include "worker/comm/tree_reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "worker/comm/aligned.h"
#include "worker/comm/host_sync.h"

namespace lockstep {

namespace {

constexpr int64_t kLine = kCacheLine / sizeof(float);

template <typename T>
void AddInto(T* __restrict left, const T* __restrict right, int64_t n) {
  for (int64_t i = 0; i < n; ++i) left[i] += right[i];
}

void Copy(const float* from, float* to, const ElementRange& range) {
  if (range.count > 0) std::memcpy(to + range.first, from + range.first, range.count * sizeof(float));
}

std::span<std::byte> Bytes(const void* p, size_t bytes) {
  return {static_cast<std::byte*>(const_cast<void*>(p)), bytes};
}

// A complete subtree's sum.
struct Place {
  float* values = nullptr;
  double* scalars = nullptr;
};

// What a rank's part of the window holds: a flag, then places. In all parts places are alike; a rank may have fewer.
class Layout {
 public:
  Layout(int64_t elements, int scalars)
      : stride_(static_cast<size_t>((elements + kLine - 1) / kLine) * kCacheLine),
        scalar_stride_(static_cast<size_t>(scalars) * sizeof(double)) {}
  size_t bytes(size_t places) const { return values_at(places) + places * stride_; }
  HostFlag* flag(std::span<std::byte> part) const { return reinterpret_cast<HostFlag*>(part.data()); }
  // Place i of `places`.
  Place place(std::span<std::byte> part, size_t places, size_t i) const {
    return {reinterpret_cast<float*>(part.data() + values_at(places) + i * stride_),
            reinterpret_cast<double*>(part.data() + sizeof(HostFlag) + i * scalar_stride_)};
  }

 private:
  size_t values_at(size_t places) const {
    return (sizeof(HostFlag) + places * scalar_stride_ + kCacheLine - 1) / kCacheLine * kCacheLine;
  }
  size_t stride_;
  size_t scalar_stride_;
};

}  // namespace

class TreeReducer::Impl {
 public:
  Impl(Communicator* communicator, int shards, int64_t elements, int scalars)
      : communicator_(communicator),
        rank_(communicator->rank()),
        size_(communicator->size()),
        shards_(shards),
        elements_(elements),
        scalars_(static_cast<size_t>(scalars)),
        owned_(OwnedShards(rank_, size_, shards)),
        one_host_(communicator->host_ranks().size() == static_cast<size_t>(size_)),
        whole_(one_host_ && elements <= kWholeSumElements),
        windows_(whole_ && size_ > 1 ? 2 : 1),
        slice_(whole_ ? ElementRange{0, elements} : SliceOf(rank_, size_, elements)),
        layout_(elements, scalars),
        kernels_(&ChooseSum()),
        tree_(AllNodes()),
        next_shard_(owned_.first) {}

  absl::Status Build() {
    const size_t kept = NodesOf(rank_);
    LOCKSTEP_ASSIGN_OR_RETURN(const HostWindow window, communicator_->MakeWindow(layout_.bytes(kept * windows_)));
    std::vector<HostFlag*> flags;
    for (const std::span<std::byte> part : window.parts) flags.push_back(layout_.flag(part));
    sync_ = HostSync(communicator_, flags);
    for (size_t w = 0; w < windows_; ++w) PlanTurn(window, w);
    PlanStack(kept);
    if (whole_ && size_ > 1) whole_sum_ = MakeAligned<float>(static_cast<size_t>(elements_));
    sums_.resize(scalars_);
    return absl::OkStatus();
  }

  std::span<float> shard_gradient() {
    AwaitCopied();
    return {turn().places[stack_.size()].values, static_cast<size_t>(elements_)};
  }
  std::span<double> shard_scalars() {
    std::span<double> s(turn().places[stack_.size()].scalars, scalars_);
    if (fresh_) std::ranges::fill(s, 0.0);
    fresh_ = false;
    return s;
  }

  void CommitShard() {
    shard_scalars();
    stack_.push_back({0, next_shard_++});
    fresh_ = true;
    while (stack_.size() >= 2 && Siblings(stack_[stack_.size() - 2], stack_.back())) {
      const Place left = turn().places[stack_.size() - 2], right = turn().places[stack_.size() - 1];
      // With one rank the last one is the sum.
      finite_ = kernels_->add(left.values, right.values, left.values, elements_);
      AddInto(left.scalars, right.scalars, static_cast<int64_t>(scalars_));
      stack_.pop_back();
      stack_.back() = {stack_.back().level + 1, stack_.back().index / 2};
    }
  }

  absl::Status FinishSlice() {
    AwaitCopied();
    LOCKSTEP_RETURN_IF_ERROR(std::exchange(deferred_, absl::OkStatus()));
    Turn& now = turn();
    sync_.Post();
    if (!one_host_) LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(now.sends, now.receives));
    LOCKSTEP_RETURN_IF_ERROR(sync_.Await());
    sum_ = whole_sum_ != nullptr ? whole_sum_.get() : now.places[0].values;
    const bool finite = tree_.Run(now.leaves, sum_ + slice_.first, slice_.count);
    if (size_ > 1) finite_ = finite;
    tree_.RunScalars(now.scalars, sums_.data(), scalars_);
    stack_.clear();
    next_shard_ = owned_.first;
    window_ = (window_ + 1) % windows_;
    return whole_ ? absl::OkStatus() : AgreeOnFinite();
  }

  absl::Status Gather(std::span<float> values) {
    if (whole_ || size_ == 1) return absl::OkStatus();
    if (values.data() != sum_) Copy(values.data(), sum_, slice_);
    sync_.Post();
    if (!one_host_) {
      for (Message& message : gather_receives_) {
        const ElementRange theirs = SliceOf(message.peer, size_, elements_);
        message.bytes = Bytes(values.data() + theirs.first, theirs.count * sizeof(float));
      }
      LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(gather_sends_, gather_receives_));
    }
    LOCKSTEP_RETURN_IF_ERROR(sync_.Await());
    for (const PeerSlice& peer : peer_slices_) Copy(peer.values, values.data(), peer.range);
    Taken();
    return absl::OkStatus();
  }

  std::span<const PeerSlice> peer_slices() const { return peer_slices_; }
  absl::Status Meet() {
    AwaitCopied();
    sync_.Post();
    return sync_.Await();
  }
  void Taken() {
    sync_.Post();
    copying_ = true;
  }

  absl::Status Finish() {
    LOCKSTEP_RETURN_IF_ERROR(FinishSlice());
    LOCKSTEP_RETURN_IF_ERROR(Gather(sum()));
    AwaitCopied();
    return std::exchange(deferred_, absl::OkStatus());
  }

  std::span<float> sum() { return {sum_, static_cast<size_t>(elements_)}; }
  std::span<const double> scalar_sums() const { return sums_; }
  ElementRange slice() const { return slice_; }
  std::optional<bool> finite() const { return shards_ == 1 ? std::nullopt : std::optional(finite_); }

 private:
  // What a step needs of one of the windows.
  struct Turn {
    // This rank's: the subtrees it is left with in the window, then the stack's deeper places.
    std::vector<Place> places;
    // All of the tree's, left to right, from the slice on.
    std::vector<const float*> leaves;
    std::vector<const double*> scalars;
    // With ranks of other hosts.
    std::vector<Message> sends, receives;
  };
  Turn& turn() { return turns_[window_]; }

  size_t NodesOf(int rank) const { return Decompose(OwnedShards(rank, size_, shards_)).size(); }
  std::vector<TreeNode> AllNodes() const {
    std::vector<TreeNode> all;
    for (int r = 0; r < size_; ++r) {
      for (const TreeNode& node : Decompose(OwnedShards(r, size_, shards_))) all.push_back(node);
    }
    return all;
  }

  void PlanTurn(const HostWindow& window, size_t w) {
    const auto host = communicator_->host_ranks();
    Turn& turn = turns_[w];
    for (int r = 0; r < size_; ++r) {
      const size_t nodes = NodesOf(r);
      const auto local = std::ranges::find(host, r);
      if (local == host.end()) {
        PlanReceives(turn, r, nodes);
        continue;
      }
      const std::span<std::byte> part = window.parts[static_cast<size_t>(local - host.begin())];
      for (size_t i = 0; i < nodes; ++i) {
        const Place place = layout_.place(part, nodes * windows_, w * nodes + i);
        turn.leaves.push_back(place.values + slice_.first);
        turn.scalars.push_back(place.scalars);
        if (r == rank_) turn.places.push_back(place);
      }
      if (r != rank_) {
        peer_slices_.push_back({SliceOf(r, size_, elements_), layout_.place(part, nodes * windows_, 0).values});
      }
    }
    for (int r = 0; r < size_; ++r) {
      if (std::ranges::find(host, r) == host.end()) PlanSends(turn, r);
    }
  }

  // A rank elsewhere sends its `nodes` subtrees, and gets this one's.
  void PlanReceives(Turn& turn, int peer, size_t nodes) {
    const auto stride = static_cast<size_t>((slice_.count + kLine - 1) / kLine * kLine);
    received_.push_back(MakeAligned<float>(stride * nodes));
    received_scalars_.push_back(MakeAligned<double>(scalars_ * nodes + 1));
    float* values = received_.back().get();
    double* scalars = received_scalars_.back().get();
    for (size_t i = 0; i < nodes; ++i) {
      turn.leaves.push_back(values + i * stride);
      turn.scalars.push_back(scalars + i * scalars_);
      turn.receives.push_back({peer, Bytes(values + i * stride, slice_.count * sizeof(float))});
    }
    turn.receives.push_back({peer, Bytes(scalars, nodes * scalars_ * sizeof(double))});
    // The last one is the peer's host's finding.
    flag_receives_.push_back({peer, Bytes(scalars + nodes * scalars_, sizeof(double))});
    gather_receives_.push_back({peer, {}});
  }
  void PlanSends(Turn& turn, int peer) {
    const size_t nodes = NodesOf(rank_);
    const ElementRange theirs = SliceOf(peer, size_, elements_);
    for (size_t i = 0; i < nodes; ++i) {
      turn.sends.push_back({peer, Bytes(turn.places[i].values + theirs.first, theirs.count * sizeof(float))});
    }
    turn.sends.push_back({peer, Bytes(turn.places[0].scalars, nodes * scalars_ * sizeof(double))});
    flag_sends_.push_back({peer, Bytes(&found_, sizeof(double))});
    gather_sends_.push_back({peer, Bytes(turn.places[0].values + slice_.first, slice_.count * sizeof(float))});
  }

  // Finds out how deep the stack gets, and takes memory for what is deeper than what is left in the end.
  void PlanStack(size_t kept) {
    size_t depth = kept;
    std::vector<TreeNode> nodes;
    for (int shard = owned_.first; shard < owned_.end; ++shard) {
      nodes.push_back({0, shard});
      depth = std::max(depth, nodes.size());
      while (nodes.size() >= 2 && Siblings(nodes[nodes.size() - 2], nodes.back())) {
        nodes.pop_back();
        nodes.back() = {nodes.back().level + 1, nodes.back().index / 2};
      }
    }
    stack_.reserve(depth);
    for (size_t i = kept; i < depth; ++i) {
      deep_.push_back(MakeAligned<float>(static_cast<size_t>(elements_)));
      deep_scalars_.push_back(MakeAligned<double>(scalars_));
      for (size_t w = 0; w < windows_; ++w) {
        turns_[w].places.push_back({deep_.back().get(), deep_scalars_.back().get()});
      }
    }
  }

  // Each rank has looked at its slice alone.
  absl::Status AgreeOnFinite() {
    if (size_ == 1) return absl::OkStatus();
    sync_.mine().value = finite_ ? 0 : 1;
    sync_.Post();
    LOCKSTEP_RETURN_IF_ERROR(sync_.Await());
    found_ = 0;
    for (const HostFlag* flag : sync_.all()) found_ = std::max(found_, flag->value);
    finite_ = found_ == 0;
    if (one_host_) return absl::OkStatus();
    LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(flag_sends_, flag_receives_));
    for (const Message& message : flag_receives_) {
      finite_ = finite_ && *reinterpret_cast<const double*>(message.bytes.data()) == 0;
    }
    return absl::OkStatus();
  }

  // Before this rank's places may change: the host's peers have copied what they need of them.
  void AwaitCopied() {
    if (!std::exchange(copying_, false)) return;
    deferred_ = sync_.Await();
  }

  Communicator* communicator_;
  const int rank_;
  const int size_;
  const int shards_;
  const int64_t elements_;
  const size_t scalars_;
  const ShardRange owned_;
  const bool one_host_;
  // Each rank adds all elements by itself.
  const bool whole_;
  const size_t windows_;
  const ElementRange slice_;
  const Layout layout_;
  const SumKernels* kernels_;
  TreeSum tree_;
  HostSync sync_;

  int next_shard_ = 0;
  bool fresh_ = true;
  // Place i of the turn holds entry i.
  std::vector<TreeNode> stack_;
  Turn turns_[2];
  size_t window_ = 0;
  std::vector<AlignedArray<float>> deep_;
  std::vector<AlignedArray<double>> deep_scalars_;

  AlignedArray<float> whole_sum_;
  float* sum_ = nullptr;
  std::vector<double> sums_;
  bool finite_ = true;
  // Not zero: a rank of this host has found that its slice is not finite.
  double found_ = 0;
  // Peers may still copy from this rank's places.
  bool copying_ = false;
  absl::Status deferred_;

  // Of the host's peers.
  std::vector<PeerSlice> peer_slices_;
  // With ranks of other hosts.
  std::vector<AlignedArray<float>> received_;
  std::vector<AlignedArray<double>> received_scalars_;
  std::vector<Message> flag_sends_, flag_receives_, gather_sends_, gather_receives_;
};

TreeReducer::TreeReducer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TreeReducer::~TreeReducer() = default;

absl::StatusOr<std::unique_ptr<TreeReducer>> TreeReducer::Create(Communicator* communicator, int shards,
                                                                 int64_t elements, int scalars) {
  auto impl = std::make_unique<Impl>(communicator, shards, elements, scalars);
  LOCKSTEP_RETURN_IF_ERROR(impl->Build());
  return std::unique_ptr<TreeReducer>(new TreeReducer(std::move(impl)));
}

std::span<float> TreeReducer::shard_gradient() { return impl_->shard_gradient(); }
std::span<double> TreeReducer::shard_scalars() { return impl_->shard_scalars(); }
void TreeReducer::CommitShard() { impl_->CommitShard(); }
absl::Status TreeReducer::Finish() { return impl_->Finish(); }
absl::Status TreeReducer::FinishSlice() { return impl_->FinishSlice(); }
absl::Status TreeReducer::Gather(std::span<float> values) { return impl_->Gather(values); }
std::span<const TreeReducer::PeerSlice> TreeReducer::peer_slices() const { return impl_->peer_slices(); }
absl::Status TreeReducer::Meet() { return impl_->Meet(); }
void TreeReducer::Taken() { impl_->Taken(); }
ElementRange TreeReducer::slice() const { return impl_->slice(); }
std::span<float> TreeReducer::sum() { return impl_->sum(); }
std::span<const double> TreeReducer::scalar_sums() const { return impl_->scalar_sums(); }
std::optional<bool> TreeReducer::finite() const { return impl_->finite(); }

}  // namespace lockstep
