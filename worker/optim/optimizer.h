// SPDX-License-Identifier: Apache-2.0
// Optimizer: one fused pass over the flat arrays. Schedule: the learning rate of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/optimizer.pb.h"
#include "worker/device/device.h"

namespace lockstep {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Applies one update. parameters and gradient: flat, of the length given to MakeOptimizer. `step`
  // counts from 0.
  virtual void Step(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step) = 0;
  // State arrays by name ("velocity"; "m", "v"), flat like the parameters, for checkpoints. Views stay
  // valid for the optimizer's life.
  virtual std::vector<std::pair<std::string, Tensor>> State() = 0;
  // The learning rate in the spec, or its default.
  virtual double base_learning_rate() const = 0;
};

// Takes its state from `device`, zeroed. RESOURCE_EXHAUSTED where memory is short.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const lockstep::v1::OptimizerSpec& spec, Device& device,
                                                         int64_t elements, DType type);

// The learning rate for `step` (from 0).
double LearningRate(const lockstep::v1::ScheduleSpec& spec, double base, int64_t step);

}  // namespace lockstep
