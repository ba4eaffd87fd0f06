// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

// Sums: the steps' norms, and how many steps.
class GradientNorm final : public Metric {
 public:
  int width() const override { return 2; }
  bool counts() const override { return false; }
  void Count(Device&, Tensor, Tensor, Tensor) override {}
  bool of_gradient() const override { return true; }
  void Evaluate(const double* sums, int64_t, MetricResult& result) const override {
    result.value = sums[1] > 0 ? sums[0] / sums[1] : 0.0;
  }
};

}  // namespace

std::unique_ptr<Metric> MakeGradientNorm(const v1::MetricSpec&, const MetricContext&) {
  return std::make_unique<GradientNorm>();
}

}  // namespace lockstep
