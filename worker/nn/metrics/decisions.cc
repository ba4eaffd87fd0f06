// SPDX-License-Identifier: Apache-2.0
// Metrics of what outputs were taken for: right classes, right sides of a threshold.
#include <cmath>

#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

// 0 where nothing was to be counted.
double Share(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

class TopK final : public Metric {
 public:
  explicit TopK(int k) : k_(k) {}
  int width() const override { return 1; }
  bool counts() const override { return true; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    device.CountTopK(outputs, targets, k_, sums);
  }
  int top_k() const override { return k_; }
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    result.value = sums[0] / static_cast<double>(rows);
  }

 private:
  int k_;
};

// A figure of one yes or no.
using Figure = double (*)(double true_positives, double predicted, double positives);

double Precision(double true_positives, double predicted, double) { return Share(true_positives, predicted); }
double Recall(double true_positives, double, double positives) { return Share(true_positives, positives); }
// 2 precision recall / (precision + recall).
double F1Score(double true_positives, double predicted, double positives) {
  return Share(2 * true_positives, predicted + positives);
}

// Of all outputs together, at a threshold.
class Sides final : public Metric {
 public:
  // Without a figure: the share on the right side.
  Sides(Figure figure, double threshold) : figure_(figure), threshold_(threshold) {}
  int width() const override { return 4; }
  bool counts() const override { return true; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    device.CountSides(outputs, targets, threshold_, sums);
  }
  void Evaluate(const double* sums, int64_t, MetricResult& result) const override {
    const double true_positives = sums[0], false_positives = sums[1], false_negatives = sums[2];
    if (figure_ == nullptr) {
      result.value = Share(true_positives + sums[3], true_positives + false_positives + false_negatives + sums[3]);
    } else {
      result.value = figure_(true_positives, true_positives + false_positives, true_positives + false_negatives);
    }
  }

 private:
  Figure figure_;
  double threshold_;
};

// The mean over the classes that occur, as a label or as what a sample was taken for.
class ClassMean final : public Metric {
 public:
  ClassMean(Figure figure, int64_t classes) : figure_(figure), classes_(static_cast<int>(classes)) {}
  int width() const override { return classes_ * 3; }
  bool counts() const override { return true; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    device.CountClasses(outputs, targets, sums);
  }
  void Evaluate(const double* sums, int64_t, MetricResult& result) const override {
    double total = 0, occurring = 0;
    for (const double* s = sums; s != sums + width(); s += 3) {
      if (s[1] == 0 && s[2] == 0) continue;
      total += figure_(s[0], s[1], s[2]);
      occurring += 1;
    }
    result.value = Share(total, occurring);
  }

 private:
  Figure figure_;
  int classes_;
};

// In the unit of the outputs.
template <typename Spec>
double Threshold(const Spec& spec, const MetricContext& context) {
  if (!spec.has_threshold()) return context.threshold;
  const double p = spec.threshold();
  return context.kind == OutputKind::kSigmoid ? std::log(p / (1.0 - p)) : p;
}

template <typename Spec>
std::unique_ptr<Metric> Make(Figure figure, const Spec& spec, const MetricContext& context) {
  if (context.task == Task::kClasses) return std::make_unique<ClassMean>(figure, context.outputs);
  return std::make_unique<Sides>(figure, Threshold(spec, context));
}

}  // namespace

std::unique_ptr<Metric> MakeAccuracy(const v1::MetricSpec&, const MetricContext& context) {
  if (context.task == Task::kClasses) return std::make_unique<TopK>(1);
  return std::make_unique<Sides>(nullptr, context.threshold);
}
std::unique_ptr<Metric> MakeTopKAccuracy(const v1::MetricSpec& spec, const MetricContext&) {
  return std::make_unique<TopK>(TopKOf(spec.top_k_accuracy()));
}
std::unique_ptr<Metric> MakeBinaryAccuracy(const v1::MetricSpec& spec, const MetricContext& context) {
  return std::make_unique<Sides>(nullptr, Threshold(spec.binary_accuracy(), context));
}
std::unique_ptr<Metric> MakePrecision(const v1::MetricSpec& spec, const MetricContext& context) {
  return Make(&Precision, spec.precision(), context);
}
std::unique_ptr<Metric> MakeRecall(const v1::MetricSpec& spec, const MetricContext& context) {
  return Make(&Recall, spec.recall(), context);
}
std::unique_ptr<Metric> MakeF1Score(const v1::MetricSpec& spec, const MetricContext& context) {
  return Make(&F1Score, spec.f1_score(), context);
}

}  // namespace lockstep
