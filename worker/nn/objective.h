// SPDX-License-Identifier: Apache-2.0
// Objective: what a model's output is judged by, the loss and the metrics. Everything is a sum over
// samples, so that parts of a batch or of a data set can be added in a fixed order.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/model/metrics_plan.h"
#include "worker/nn/loss.h"
#include "worker/nn/metrics/metric.h"

namespace lockstep {

// Means over the samples of a part.
struct Scores {
  double loss = 0;
  std::vector<MetricResult> metrics;

  // Of the metric of this name, asked for or not.
  std::optional<double> Find(std::string_view metric) const;
};

// Sums are laid out as {the loss, sums whose bits depend on the order they are added in, counts}.
class Objective {
 public:
  Objective(const ModelPlan& model, const lockstep::v1::LossSpec& loss, const MetricsPlan& metrics);

  // Takes memory on the device; before the first Compute.
  absl::Status Prepare(Device& device) { return loss_->Prepare(device); }

  const Loss& loss() const { return *loss_; }
  // True: the loss does the last layer's work too and wants that layer's input, which is numerically
  // safer (softmax or sigmoid, and cross-entropy).
  bool fuses_last_layer() const { return fuses_last_layer_; }
  int width() const { return width_; }
  // The first so many sums depend on the order; those behind are whole numbers.
  int ordered_width() const { return ordered_width_; }

  // Adds a batch to `sums` (kF64 [width]); see Loss::Compute.
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sums);
  // For who computes the loss and the first metric of this kind by itself (DenseChain): the place in `sums` where the
  // labels among the largest outputs are counted, or -1, and all other metrics.
  int hits_slot() const { return hits_slot_; }
  void CountOthers(Device& device, Tensor output, Tensor targets, Tensor sums) {
    Count(device, output, targets, sums, hits_slot_);
  }
  // True: AddGradientNorm is to be called with each step's norm.
  bool wants_gradient_norm() const { return gradient_slot_ >= 0; }
  void AddGradientNorm(double norm, std::span<double> sums) const;

  // From the sums over `rows` samples; of held-out data, there is no gradient.
  Scores Score(std::span<const double> sums, int64_t rows, bool training) const;
  // The same of one metric, without taking memory where it has no matrix; nullopt: there is none.
  std::optional<double> Value(std::string_view metric, std::span<const double> sums, int64_t rows) const;

 private:
  struct Entry {
    std::unique_ptr<Metric> metric;
    MetricResult result;
    int slot = 0;
  };

  static constexpr int kNoSlot = -1;
  // All metrics but the one at this place.
  void Count(Device& device, Tensor output, Tensor targets, Tensor sums, int but);

  std::unique_ptr<Loss> loss_;
  bool fuses_last_layer_ = false;
  std::vector<Entry> entries_;
  int width_ = 1;
  int ordered_width_ = 1;
  int gradient_slot_ = kNoSlot;
  int hits_slot_ = kNoSlot;
};

}  // namespace lockstep
