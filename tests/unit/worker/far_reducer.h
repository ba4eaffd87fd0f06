// SPDX-License-Identifier: Apache-2.0
// As NCCL's reducer, for a device whose memory is not the host's: gradients are written and summed in the device's
// memory.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <climits>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "worker/comm/reducer.h"
#include "worker/device/device.h"

namespace lockstep {

class FarReducer final : public Reducer {
 public:
  // `told` counts what backward said; null: nobody counts.
  FarReducer(std::unique_ptr<Reducer> host, Device* device, int64_t elements, int scalars,
             std::atomic<int>* told = nullptr)
      : host_(std::move(host)),
        device_(device),
        told_(told),
        buffer_(device->Allocate(static_cast<size_t>(elements) * sizeof(float)).value()),
        numbers_(device->Allocate(static_cast<size_t>(scalars) * sizeof(double)).value()),
        floats_(static_cast<float*>(buffer_->data()), static_cast<size_t>(elements)) {}
  std::span<float> shard_gradient() override { return floats_; }
  std::span<double> shard_scalars() override { return host_->shard_scalars(); }
  void LayersDone(int layer) override {
    EXPECT_LT(layer, std::exchange(newest_layer_, layer));
    if (told_ != nullptr) ++*told_;
  }
  void CommitShard() override {
    // A shard without rows has no backward, nor has one where all go through the model together.
    EXPECT_TRUE(newest_layer_ == 0 || newest_layer_ == INT_MAX) << newest_layer_;
    newest_layer_ = INT_MAX;
    device_->CopyToHost(host_->shard_gradient().data(), floats_.data(), floats_.size_bytes());
    host_->CommitShard();
  }
  absl::Status Finish() override {
    const absl::Status finished = host_->Finish();
    device_->CopyFromHost(floats_.data(), host_->sum().data(), floats_.size_bytes());
    return finished;
  }
  std::span<float> sum() override { return floats_; }
  std::span<const double> scalar_sums() const override { return host_->scalar_sums(); }
  // As where NCCL adds: nobody has looked.
  std::optional<bool> finite() const override { return std::nullopt; }
  EnqueuedReducer* enqueued() override { return &enqueued_; }

 private:
  // All on the device.
  class Enqueued final : public EnqueuedReducer {
   public:
    explicit Enqueued(FarReducer* all) : all_(all) {}
    float* shard_gradient() const override { return all_->floats_.data(); }
    double* shard_scalars() const override { return static_cast<double*>(all_->numbers_->data()); }
    absl::Status CommitShard() override {
      const std::span<double> scalars = all_->host_->shard_scalars();
      all_->device_->CopyToHost(scalars.data(), shard_scalars(), scalars.size_bytes());
      all_->CommitShard();
      return absl::OkStatus();
    }
    absl::Status Finish() override {
      const absl::Status finished = all_->Finish();
      const std::span<const double> sums = all_->host_->scalar_sums();
      all_->device_->CopyFromHost(shard_scalars(), sums.data(), sums.size_bytes());
      return finished;
    }
    float* sum() const override { return all_->floats_.data(); }
    const double* scalar_sums() const override { return shard_scalars(); }
    const double* not_finite() const override { return nullptr; }
    absl::Status Await(const std::function<absl::StatusOr<bool>()>& reached) override {
      const absl::StatusOr<bool> over = reached();
      return over.ok() && !*over ? absl::InternalError("it did all at once") : over.status();
    }

    void set_release(std::function<void()>) override {}

   private:
    FarReducer* all_;
  };

  std::unique_ptr<Reducer> host_;
  Device* device_;
  std::atomic<int>* told_;
  int newest_layer_ = INT_MAX;
  std::unique_ptr<Buffer> buffer_;
  std::unique_ptr<Buffer> numbers_;
  std::span<float> floats_;
  Enqueued enqueued_{this};
};

}  // namespace lockstep
