// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

// Of the cross-entropy itself: without the loss's smoothing and weights.
class Perplexity final : public Metric {
 public:
  explicit Perplexity(OutputKind kind) : kind_(kind) {}
  int width() const override { return 1; }
  bool counts() const override { return false; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    if (kind_ == OutputKind::kSoftmax) {
      device.SoftmaxCrossEntropy({}, outputs, targets, 0, {}, sums);
    } else {
      device.CrossEntropy({}, outputs, targets, 0, {}, sums);
    }
  }
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    result.value = std::exp(sums[0] / static_cast<double>(rows));
  }

 private:
  OutputKind kind_;
};

}  // namespace

std::unique_ptr<Metric> MakePerplexity(const v1::MetricSpec&, const MetricContext& context) {
  return std::make_unique<Perplexity>(context.kind);
}

}  // namespace lockstep
