// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

class TopK final : public Metric {
 public:
  explicit TopK(int k) : k_(k) {}
  int width() const override { return 1; }
  bool counts() const override { return true; }
  void Count(Device& device, const Outputs& outputs, Tensor targets, Tensor sums) override {
    device.CountTopK(outputs.values, targets, k_, sums);
  }
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    result.value = sums[0] / static_cast<double>(rows);
  }

 private:
  int k_;
};

}  // namespace

std::unique_ptr<Metric> MakeAccuracy(const v1::MetricSpec&, const MetricContext&) { return std::make_unique<TopK>(1); }

}  // namespace lockstep
