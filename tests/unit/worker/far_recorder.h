// SPDX-License-Identifier: Apache-2.0
// FarRecorder: recorded steps of a device that computes at once. A run calls the recorded step again for each of its
// steps, so all rules of StepRecorder hold but the one that nothing is called.
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "common/permutation.h"
#include "worker/device/step_recorder.h"

namespace lockstep {

class FarRecorder final : public StepRecorder {
 public:
  static constexpr int64_t kMaxSteps = 16;
  static constexpr int64_t kMaxKept = 2;

  explicit FarRecorder(Device* device) : device_(device) {}

  // Runs of all recorders so far.
  inline static std::atomic<int64_t> runs = 0;

  // True: what changes more than the running step is to do nothing.
  bool halted() const { return halted_ && decided_; }
  RngStream OfRunningStep(RngStream stream) const {
    if (running_) stream.stream += static_cast<uint64_t>(now_ - step_.step) << kStepShift;
    return stream;
  }

  absl::Status Record(RecordedStep step) override {
    step_ = std::move(step);
    recorded_ = true;
    return absl::OkStatus();
  }
  bool ready() const override { return recorded_; }
  void Forget() override { recorded_ = false; }
  int64_t max_steps() const override { return kMaxSteps; }
  int64_t max_kept() const override { return kMaxKept; }

  void GatherSamples(const SampleTable& table, int64_t first, Tensor inputs, Tensor targets) override {
    const int64_t epoch = now_ / table.steps_per_epoch, rows = inputs.shape[0];
    const Permutation order(static_cast<uint64_t>(table.samples), table.seed, static_cast<uint64_t>(epoch));
    std::vector<int64_t> wanted(static_cast<size_t>(rows)), host_rows(static_cast<size_t>(table.samples));
    if (table.rows.data != nullptr) device_->CopyToHost(host_rows.data(), table.rows.data, table.rows.bytes());
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t position = (now_ % table.steps_per_epoch) * table.batch_size + first + i;
      const auto sample = static_cast<int64_t>(order(static_cast<uint64_t>(position)));
      wanted[i] = table.rows.data == nullptr ? sample : host_rows[static_cast<size_t>(sample)];
    }
    auto memory = device_->Allocate(wanted.size() * sizeof(int64_t)).value();
    const Tensor indices{memory->data(), Shape{rows}, DType::kI64};
    device_->CopyFromHost(indices.data, wanted.data(), indices.bytes());
    device_->GatherRows(table.features, indices, table.gather, inputs);
    if (targets.type == DType::kI32) {
      device_->GatherLabels(table.targets, indices, targets);
    } else {
      device_->GatherRows(table.targets, indices, GatherArgs{}, targets);
    }
  }
  void Decide(Tensor sums, Tensor extra, Tensor flag, Tensor gradient) override {
    std::vector<double> numbers(static_cast<size_t>(step_.results));
    const auto width = static_cast<size_t>(sums.elements());
    device_->CopyToHost(numbers.data(), sums.data, sums.bytes());
    if (extra.data != nullptr) device_->CopyToHost(numbers.data() + width, extra.data, extra.bytes());
    double found = 0;
    std::unique_ptr<Buffer> own;
    if (flag.data == nullptr) {
      own = device_->Allocate(sizeof(double)).value();
      flag = {own->data(), Shape{1}, DType::kF64};
      device_->CheckFinite(gradient, flag);
    }
    device_->CopyToHost(&found, flag.data, sizeof(found));
    device_->Fill(sums, 0);
    decided_ = true;
    halted_ = halted_ || !std::isfinite(numbers[0]) || found != 0;
    if (!halted_) results_.insert(results_.end(), numbers.begin(), numbers.end());
  }

  absl::Status Start(int64_t first, int64_t count) override {
    if (!recorded_ || count < 1 || count > kMaxSteps) return absl::FailedPreconditionError("no run of this kind");
    ++runs;
    results_.clear();
    kept_.clear();
    halted_ = false;
    running_ = true;
    absl::Status status;
    for (now_ = first; now_ < first + count && status.ok(); ++now_) {
      decided_ = false;
      status = step_.body();
      if (status.ok()) step_.update(now_);
      if (now_ + 1 < first + count) Keep();
    }
    if (kept_.size() > kMaxKept) return absl::FailedPreconditionError("too much is to be kept");
    running_ = halted_ = decided_ = false;
    return status;
  }
  absl::StatusOr<bool> Reached() override { return true; }
  absl::StatusOr<int64_t> Finish(std::span<double> results) override {
    std::copy(results_.begin(), results_.end(), results.begin());
    return static_cast<int64_t>(results_.size()) / step_.results;
  }
  std::span<const std::byte> kept(int64_t i) const override { return kept_[static_cast<size_t>(i)]; }

 private:
  void Keep() {
    if (step_.keep_every == 0 || (now_ + 1) % step_.keep_every != 0) return;
    kept_.emplace_back(step_.kept.bytes());
    device_->CopyToHost(kept_.back().data(), step_.kept.data, step_.kept.bytes());
  }

  Device* device_;
  RecordedStep step_;
  bool recorded_ = false;
  bool running_ = false;
  bool halted_ = false;
  bool decided_ = false;
  int64_t now_ = 0;
  std::vector<double> results_;
  std::vector<std::vector<std::byte>> kept_;
};

}  // namespace lockstep
