// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "worker/nn/loss.h"

namespace lockstep {

namespace {

class SparseCategoricalCrossentropy final : public Loss {
 public:
  explicit SparseCategoricalCrossentropy(bool from_logits) : from_logits_(from_logits) {}
  int stats_width() const override { return 2; }
  bool classification() const override { return true; }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor stats) override {
    if (from_logits_) {
      device.SoftmaxCrossEntropy(output, targets, scale, doutput, stats);
    } else {
      device.CrossEntropy(output, targets, scale, doutput, stats);
    }
  }
  LossSums Sums(const double* stats) const override { return {.loss = stats[0], .correct = stats[1]}; }

 private:
  bool from_logits_;
};

class MeanSquaredError final : public Loss {
 public:
  int stats_width() const override { return 4; }
  bool classification() const override { return false; }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor stats) override {
    device.MeanSquaredError(output, targets, scale, doutput, stats);
  }
  LossSums Sums(const double* stats) const override {
    return {.loss = stats[0], .squared_error = stats[1], .target = stats[2], .target_squared = stats[3]};
  }
};

}  // namespace

std::unique_ptr<Loss> MakeLoss(const v1::LossSpec& spec) {
  switch (spec.kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy:
      return std::make_unique<SparseCategoricalCrossentropy>(spec.sparse_categorical_crossentropy().from_logits());
    case v1::LossSpec::kMeanSquaredError:
      return std::make_unique<MeanSquaredError>();
    default:
      break;
  }
  // The spec was validated: a bug.
  std::abort();
}

}  // namespace lockstep
