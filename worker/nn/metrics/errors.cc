// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/metrics/metric.h"

namespace lockstep {

namespace {

// Sums of Device::SumErrors, in order.
constexpr int kSquared = 0, kAbsolute = 1, kTarget = 2, kTargetSquared = 3, kSums = 4;

class Errors : public Metric {
 public:
  explicit Errors(const MetricContext& context) : outputs_(static_cast<double>(context.outputs)) {}
  int width() const override { return kSums; }
  bool counts() const override { return false; }
  void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) override {
    device.SumErrors(outputs, targets, sums);
  }

 protected:
  double Values(int64_t rows) const { return static_cast<double>(rows) * outputs_; }

 private:
  double outputs_;
};

class MeanSquaredError final : public Errors {
 public:
  using Errors::Errors;
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    result.value = sums[kSquared] / Values(rows);
  }
};

class MeanAbsoluteError final : public Errors {
 public:
  using Errors::Errors;
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    result.value = sums[kAbsolute] / Values(rows);
  }
};

class RSquared final : public Errors {
 public:
  using Errors::Errors;
  void Evaluate(const double* sums, int64_t rows, MetricResult& result) const override {
    const double spread = sums[kTargetSquared] - sums[kTarget] * sums[kTarget] / Values(rows);
    // A constant target has nothing to explain.
    result.value = spread > 0 ? 1.0 - sums[kSquared] / spread : 0.0;
  }
};

}  // namespace

std::unique_ptr<Metric> MakeMeanSquaredErrorMetric(const v1::MetricSpec&, const MetricContext& context) {
  return std::make_unique<MeanSquaredError>(context);
}
std::unique_ptr<Metric> MakeMeanAbsoluteErrorMetric(const v1::MetricSpec&, const MetricContext& context) {
  return std::make_unique<MeanAbsoluteError>(context);
}
std::unique_ptr<Metric> MakeRSquared(const v1::MetricSpec&, const MetricContext& context) {
  return std::make_unique<RSquared>(context);
}

}  // namespace lockstep
