// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "common/status_macros.h"
#include "worker/nn/loss.h"

namespace lockstep {

namespace {

// Of labels or of distributions: the targets' type says which.
class Crossentropy final : public Loss {
 public:
  template <typename Spec>
  Crossentropy(const Spec& spec, bool labels)
      : from_logits_(spec.from_logits()),
        labels_(labels),
        args_{.label_smoothing = spec.label_smoothing()},
        weights_(spec.class_weights().begin(), spec.class_weights().end()) {}

  bool classification() const override { return labels_; }
  absl::Status Prepare(Device& device) override {
    if (weights_.empty()) return absl::OkStatus();
    LOCKSTEP_ASSIGN_OR_RETURN(buffer_, device.Allocate(weights_.size() * sizeof(double)));
    device.CopyFromHost(buffer_->data(), weights_.data(), weights_.size() * sizeof(double));
    args_.class_weights = {buffer_->data(), Shape{static_cast<int64_t>(weights_.size())}, DType::kF64};
    return absl::OkStatus();
  }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sum) override {
    if (from_logits_) {
      device.SoftmaxCrossEntropy(args_, output, targets, scale, doutput, sum);
    } else {
      device.CrossEntropy(args_, output, targets, scale, doutput, sum);
    }
  }
  const CrossEntropyArgs* softmax_crossentropy() const override { return from_logits_ ? &args_ : nullptr; }

 private:
  bool from_logits_;
  bool labels_;
  CrossEntropyArgs args_;
  std::vector<double> weights_;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace

std::unique_ptr<Loss> MakeSparseCategoricalCrossentropy(const v1::LossSpec& spec) {
  return std::make_unique<Crossentropy>(spec.sparse_categorical_crossentropy(), true);
}
std::unique_ptr<Loss> MakeCategoricalCrossentropy(const v1::LossSpec& spec) {
  return std::make_unique<Crossentropy>(spec.categorical_crossentropy(), false);
}

}  // namespace lockstep
