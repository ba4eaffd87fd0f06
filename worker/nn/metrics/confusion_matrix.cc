// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

class ConfusionMatrix final : public Metric {
 public:
  explicit ConfusionMatrix(const MetricContext& context)
      : one_output_(context.outputs == 1),
        classes_(one_output_ ? 2 : static_cast<int>(context.outputs)),
        threshold_(context.threshold) {}
  int width() const override { return classes_ * classes_; }
  bool counts() const override { return true; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    if (one_output_) {
      device.CountSides(outputs, targets, threshold_, sums);
    } else {
      device.CountConfusion(outputs, targets, sums);
    }
  }
  void Evaluate(const double* sums, int64_t, MetricResult& result) const override {
    result.matrix.assign(sums, sums + width());
    // CountSides: true positives, false positives, false negatives, true negatives.
    if (one_output_) result.matrix = {sums[3], sums[1], sums[2], sums[0]};
    double right = 0;
    for (int i = 0; i < classes_; ++i) right += result.matrix[static_cast<size_t>(i * classes_ + i)];
    const double all = std::accumulate(result.matrix.begin(), result.matrix.end(), 0.0);
    result.value = all > 0 ? right / all : 0.0;
  }

 private:
  bool one_output_;
  int classes_;
  double threshold_;
};

}  // namespace

std::unique_ptr<Metric> MakeConfusionMatrix(const v1::MetricSpec&, const MetricContext& context) {
  return std::make_unique<ConfusionMatrix>(context);
}

}  // namespace lockstep
