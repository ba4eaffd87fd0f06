// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "worker/nn/loss.h"

namespace lockstep {

namespace {

class SparseCategoricalCrossentropy final : public Loss {
 public:
  explicit SparseCategoricalCrossentropy(bool from_logits) : from_logits_(from_logits) {}
  bool classification() const override { return true; }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sum) override {
    if (from_logits_) {
      device.SoftmaxCrossEntropy(output, targets, scale, doutput, sum);
    } else {
      device.CrossEntropy(output, targets, scale, doutput, sum);
    }
  }

 private:
  bool from_logits_;
};

class MeanSquaredError final : public Loss {
 public:
  bool classification() const override { return false; }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sum) override {
    device.MeanSquaredError(output, targets, scale, doutput, sum);
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
