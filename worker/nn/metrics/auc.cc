// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

// Keras's AUC: at each of the thresholds below 0, 1 / (T - 1), ..., (T - 2) / (T - 1), above 1 a sample is
// positive where its probability is greater. Of several outputs: all together.
class Auc final : public Metric {
 public:
  Auc(int thresholds, OutputKind kind) : buckets_(thresholds - 1), kind_(kind) {}
  int width() const override { return 2 * buckets_; }
  bool counts() const override { return true; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    device.ScoreHistogram(outputs, kind_, targets, sums);
  }
  void Evaluate(const double* sums, int64_t, MetricResult& result) const override {
    const double* const no = sums;
    const double* const yes = sums + buckets_;
    double negatives = 0, positives = 0;
    for (int i = 0; i < buckets_; ++i) {
      negatives += no[i];
      positives += yes[i];
    }
    result.value = 0;
    if (negatives == 0 || positives == 0) return;
    // From the lowest threshold on: all are taken for positive, and a bucket's no more at the one above it.
    double above = positives;
    for (int i = 0; i < buckets_; ++i) {
      const double width = no[i] / negatives;
      const double height = (above + (above - yes[i])) / positives / 2.0;
      result.value += width * height;
      above -= yes[i];
    }
  }

 private:
  int buckets_;
  OutputKind kind_;
};

}  // namespace

std::unique_ptr<Metric> MakeAuc(const v1::MetricSpec& spec, const MetricContext& context) {
  return std::make_unique<Auc>(AucThresholdsOf(spec.auc()), context.kind);
}

}  // namespace lockstep
