// SPDX-License-Identifier: Apache-2.0
// Metric: a figure over all samples of a part, made of sums that are added up from batches. What can be
// counted is, so that it is exact whatever the number of workers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/model/metrics_plan.h"
#include "worker/device/device.h"

namespace lockstep {

// What a metric is given: a model's last output, [rows, n], and what it means.
struct Outputs {
  Tensor values;
  OutputKind kind = OutputKind::kValues;
  // In the unit of `values`: an output above it means yes.
  double threshold = 0.5;
};

// One metric's value over a part.
struct MetricResult {
  // The metric's kind: "accuracy".
  std::string name;
  double value = 0;
  // See MetricValue in events.proto.
  std::vector<double> matrix;
  // False: the job did not ask for it by name.
  bool reported = true;
};

class Metric {
 public:
  virtual ~Metric() = default;
  // How many sums it needs.
  virtual int width() const = 0;
  // True: the sums are whole numbers, so the order in which they are added does not matter.
  virtual bool counts() const = 0;
  // Adds a batch to `sums` (kF64 [width]). targets: kI32 [rows], or [rows, n] like the outputs.
  virtual void Count(Device& device, const Outputs& outputs, Tensor targets, Tensor sums) = 0;
  // True: the trainer gives AddGradientNorm each step's, and Count does nothing.
  virtual bool of_gradient() const { return false; }
  // Fills in value and matrix from the sums over `rows` samples, at least 1.
  virtual void Evaluate(const double* sums, int64_t rows, MetricResult& result) const = 0;
};

// What MakeMetric may look at.
struct MetricContext {
  Task task = Task::kClasses;
  // Numbers of one sample's output.
  int64_t outputs = 1;
};

// The registry knows every kind of MetricSpec.
std::unique_ptr<Metric> MakeMetric(const lockstep::v1::MetricSpec& spec, const MetricContext& context);

}  // namespace lockstep
