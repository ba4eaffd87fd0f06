// SPDX-License-Identifier: Apache-2.0
#include "worker/train/gradient_sum.h"

#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "worker/comm/tree_plan.h"

namespace lockstep {

namespace {

// What all have in common: a reducer, if only for the scalars.
class ReducerSum : public GradientSum {
 public:
  explicit ReducerSum(std::unique_ptr<Reducer> reducer) : reducer_(std::move(reducer)) {}
  std::span<double> shard_scalars() override { return reducer_->shard_scalars(); }
  std::span<const double> scalar_sums() const override { return reducer_->scalar_sums(); }

 protected:
  std::unique_ptr<Reducer> reducer_;
};

absl::StatusOr<Tensor> Take(Device& device, int64_t elements, DType type,
                            std::vector<std::unique_ptr<Buffer>>& buffers) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                            device.Allocate(static_cast<size_t>(elements) * SizeOf(type)));
  buffers.push_back(std::move(buffer));
  return Tensor{buffers.back()->data(), Shape{elements}, type};
}

// The reducer's memory is the device's: nothing is copied.
class InPlaceSum : public ReducerSum {
 public:
  using ReducerSum::ReducerSum;
  Tensor shard_gradient() override { return View(reducer_->shard_gradient()); }
  void Commit() override { reducer_->CommitShard(); }
  absl::Status Finish() override { return reducer_->Finish(); }
  Tensor sum() override { return View(reducer_->sum()); }
  std::optional<bool> finite() const override { return reducer_->finite(); }
  EnqueuedReducer* enqueued() override { return reducer_->enqueued(); }

 private:
  static Tensor View(std::span<float> values) {
    return {values.data(), Shape{static_cast<int64_t>(values.size())}, DType::kF32};
  }
};

class OverlappedSum final : public InPlaceSum, public GradientWatcher {
 public:
  using InPlaceSum::InPlaceSum;
  GradientWatcher* watcher() override { return this; }
  void LayersDone(int layer) override { reducer_->LayersDone(layer); }
};

// Several ranks with memory of their own: each gradient goes down to the host, and the sum comes up.
class StagedSum final : public ReducerSum {
 public:
  StagedSum(std::unique_ptr<Reducer> reducer, Device* device) : ReducerSum(std::move(reducer)), device_(device) {}
  absl::Status Build(int64_t elements) {
    LOCKSTEP_ASSIGN_OR_RETURN(gradient_, Take(*device_, elements, DType::kF32, buffers_));
    return absl::OkStatus();
  }
  Tensor shard_gradient() override { return gradient_; }
  void Commit() override {
    device_->CopyToHost(reducer_->shard_gradient().data(), gradient_.data, gradient_.bytes());
    reducer_->CommitShard();
  }
  absl::Status Finish() override {
    LOCKSTEP_RETURN_IF_ERROR(reducer_->Finish());
    device_->CopyFromHost(gradient_.data, reducer_->sum().data(), gradient_.bytes());
    return absl::OkStatus();
  }
  Tensor sum() override { return gradient_; }
  std::optional<bool> finite() const override { return reducer_->finite(); }
  EnqueuedReducer* enqueued() override { return nullptr; }

 private:
  Device* device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  Tensor gradient_;
};

// Arrays that a device adds as the canonical tree does.
class DeviceTree {
 public:
  explicit DeviceTree(Device* device) : device_(device) {}
  absl::Status Build(int shards, int64_t elements, DType type) {
    // A tree of 2^d shards is added with d + 1 places: one for each level that waits for its sibling.
    int places = 1;
    for (int left = shards; left > 1; left /= 2) ++places;
    for (int i = 0; i < places; ++i) {
      LOCKSTEP_ASSIGN_OR_RETURN(const Tensor place, Take(*device_, elements, type, buffers_));
      places_.push_back(place);
    }
    return absl::OkStatus();
  }
  // Of the next shard.
  Tensor next() const { return places_[stack_.size()]; }
  void Commit() {
    stack_.push_back({0, next_shard_++});
    while (stack_.size() >= 2 && Siblings(stack_[stack_.size() - 2], stack_.back())) {
      const Tensor left = places_[stack_.size() - 2], right = places_[stack_.size() - 1];
      device_->Add(left, right, left);
      stack_.pop_back();
      stack_.back() = {stack_.back().level + 1, stack_.back().index / 2};
    }
  }
  void Finish() {
    stack_.clear();
    next_shard_ = 0;
  }
  Tensor sum() const { return places_.front(); }

 private:
  Device* device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  // Place i holds entry i of the stack.
  std::vector<Tensor> places_;
  std::vector<TreeNode> stack_;
  int next_shard_ = 0;
};

// One rank with memory of its own: the device adds its shards as the tree does, and they never leave it.
class DeviceSum final : public ReducerSum {
 public:
  DeviceSum(std::unique_ptr<Reducer> reducer, Device* device)
      : ReducerSum(std::move(reducer)), gradients_(device), scalars_(device) {}
  absl::Status Build(int shards, int64_t elements, int scalars) {
    LOCKSTEP_RETURN_IF_ERROR(gradients_.Build(shards, elements, DType::kF32));
    return scalars_.Build(shards, scalars, DType::kF64);
  }
  Tensor shard_gradient() override { return gradients_.next(); }
  void Commit() override {
    reducer_->CommitShard();
    gradients_.Commit();
  }
  absl::Status Finish() override {
    gradients_.Finish();
    return reducer_->Finish();
  }
  Tensor sum() override { return gradients_.sum(); }
  // Nobody has looked.
  std::optional<bool> finite() const override { return std::nullopt; }
  EnqueuedReducer* enqueued() override { return &enqueued_; }

 private:
  class Enqueued final : public EnqueuedReducer {
   public:
    explicit Enqueued(DeviceSum* sum) : gradients_(&sum->gradients_), scalars_(&sum->scalars_) {}
    float* shard_gradient() const override { return gradients_->next().as<float>(); }
    double* shard_scalars() const override { return scalars_->next().as<double>(); }
    absl::Status CommitShard() override {
      gradients_->Commit();
      scalars_->Commit();
      return absl::OkStatus();
    }
    absl::Status Finish() override {
      gradients_->Finish();
      scalars_->Finish();
      return absl::OkStatus();
    }
    float* sum() const override { return gradients_->sum().as<float>(); }
    const double* scalar_sums() const override { return scalars_->sum().as<double>(); }
    const double* not_finite() const override { return nullptr; }
    absl::Status Await(const std::function<absl::StatusOr<bool>()>&) override { return absl::OkStatus(); }
    void set_release(std::function<void()>) override {}

   private:
    DeviceTree* gradients_;
    DeviceTree* scalars_;
  };

  DeviceTree gradients_;
  // Of recorded steps; the host has the reducer's.
  DeviceTree scalars_;
  Enqueued enqueued_{this};
};

}  // namespace

bool GradientSum::StaysOnDevice(const Device& device, const Communicator& communicator) {
  return !device.host_accessible() && communicator.size() == 1;
}

std::unique_ptr<GradientSum> GradientSum::InPlace(std::unique_ptr<Reducer> reducer) {
  return std::make_unique<InPlaceSum>(std::move(reducer));
}

std::unique_ptr<GradientSum> GradientSum::Overlapped(std::unique_ptr<Reducer> reducer) {
  return std::make_unique<OverlappedSum>(std::move(reducer));
}

absl::StatusOr<std::unique_ptr<GradientSum>> GradientSum::Create(Device* device, Communicator* communicator,
                                                                 std::unique_ptr<Reducer> reducer, int shards,
                                                                 int64_t elements, int scalars) {
  if (device->host_accessible()) return InPlace(std::move(reducer));
  if (StaysOnDevice(*device, *communicator)) {
    auto sum = std::make_unique<DeviceSum>(std::move(reducer), device);
    LOCKSTEP_RETURN_IF_ERROR(sum->Build(shards, elements, scalars));
    return sum;
  }
  auto sum = std::make_unique<StagedSum>(std::move(reducer), device);
  LOCKSTEP_RETURN_IF_ERROR(sum->Build(elements));
  return sum;
}

}  // namespace lockstep
