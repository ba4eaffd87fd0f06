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
  // Adds a batch to `sums` (kF64 [width]). outputs: the model's last ones, [rows, n]; targets: kI32
  // [rows], or [rows, n] like the outputs.
  virtual void Count(Device& device, Tensor outputs, Tensor targets, Tensor sums) = 0;
  // Not 0: Count is Device::CountTopK with this k.
  virtual int top_k() const { return 0; }
  // True: the trainer adds each step's norm and 1 to the two sums, and Count does nothing.
  virtual bool of_gradient() const { return false; }
  // Fills in value and matrix from the sums over `rows` samples, at least 1.
  virtual void Evaluate(const double* sums, int64_t rows, MetricResult& result) const = 0;
};

// What is known of a model's outputs.
struct MetricContext {
  Task task = Task::kClasses;
  // Numbers of one sample's output.
  int64_t outputs = 1;
  // What the metrics are given.
  OutputKind kind = OutputKind::kValues;
  // An output above this means yes, in the outputs' own unit, where the metric says nothing else.
  double threshold = 0.5;
};

// The registry knows every kind of MetricSpec.
std::unique_ptr<Metric> MakeMetric(const lockstep::v1::MetricSpec& spec, const MetricContext& context);

}  // namespace lockstep
