// SPDX-License-Identifier: Apache-2.0
// Optimizer: one fused pass over the flat arrays.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/optimizer.pb.h"
#include "worker/device/device.h"

namespace lockstep {

// One tensor's place in the flat arrays, and what is asked for it.
struct OptimizedTensor {
  // "dense_1/kernel", for patterns.
  std::string name;
  int64_t offset = 0;
  int64_t elements = 0;
  // False: nothing of it is ever changed.
  bool trainable = true;
  // The loss has l1 |w| + l2 w^2 more.
  double l1 = 0;
  double l2 = 0;
};

// The state array of what KeepBest keeps.
inline constexpr char kBestWeights[] = "best";

// Elements [first, first + count) of the flat arrays.
struct FlatPart {
  int64_t first = 0;
  int64_t count = 0;
};

// Zeros for the state that is updated element by element, where ranks have one array for all of them.
struct SharedState {
  std::span<std::byte> memory;
  // This rank loads and saves it; the others update their parts.
  bool keeps = true;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Before the first step, once the parameters have their initial values: the average starts with them.
  virtual void Begin(Device& device, Tensor parameters) = 0;
  // Takes the gradient of step `step` (from 0) and, where the steps that are accumulated are complete,
  // applies one update. parameters and gradient: flat, of the length given to MakeOptimizer; the gradient
  // is used up. Allocates nothing.
  void Step(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step) {
    StepPart(device, parameters, gradient, learning_rate, step, {0, parameters.elements()});
  }
  // The same for some of the elements; a step consists of any parts that cover all. Only where elementwise(), or of
  // all elements.
  virtual void StepPart(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step,
                        FlatPart part) = 0;
  // Instead of Step for a step that must change nothing: it counts as one whose gradient is zero. Only
  // matters where steps are accumulated. `gradient` is overwritten.
  void Skip(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step) {
    SkipPart(device, parameters, gradient, learning_rate, step, {0, parameters.elements()});
  }
  virtual void SkipPart(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step,
                        FlatPart part) = 0;
  // False: Step and Skip of this step change state alone, since steps are accumulated.
  virtual bool changes_parameters(int64_t step) const = 0;
  // True: a weight's update needs nothing of other weights, and no array but those that SharedStateBytes counts.
  virtual bool elementwise() const = 0;
  // True: all that a step does to these elements is w -= learning_rate * gradient.
  virtual bool IsPlain(FlatPart part) const = 0;
  // State arrays by name ("velocity"; "m", "v"), flat like the parameters, for checkpoints. Views stay
  // valid for the optimizer's life. Without memory where it is shared and another rank keeps it.
  virtual std::vector<std::pair<std::string, Tensor>> State() = 0;
  // The learning rate in the spec, or its default.
  virtual double base_learning_rate() const = 0;
  // True: the spec asks for an average of the weights, which is the trained model.
  virtual bool has_average() const = 0;
  // Exchanges the weights with their average, where there is one; a second call undoes the first.
  virtual void SwapAverage(Device& device, Tensor parameters) = 0;
  // Where MakeOptimizer was told to keep the best: keeps all parameters as they are, with the average where
  // there is one; exchanges the parameters with those kept, and back again.
  virtual void KeepBest(Device& device, Tensor parameters) = 0;
  virtual void SwapBest(Device& device, Tensor parameters) = 0;
};

// Takes its state from `device`. `tensors`: all that there are, by rising offset, with nothing but zeros
// between them; none: the array is one. `keeps_best`: there is room for the best weights. `shared`: SharedStateBytes
// that outlive the optimizer, or nothing. RESOURCE_EXHAUSTED where memory is short.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const lockstep::v1::OptimizerSpec& spec, Device& device,
                                                         int64_t elements, DType type,
                                                         std::vector<OptimizedTensor> tensors = {},
                                                         bool keeps_best = false, const SharedState& shared = {});

// One of the arrays of a SharedState, which lie one behind the other.
size_t SharedArrayBytes(int64_t elements, DType type);
// What the state takes that ranks can share. 0: a weight's update depends on other weights, so each rank has to do
// the whole of it; or there is no such state.
size_t SharedStateBytes(const lockstep::v1::OptimizerSpec& spec, int64_t elements, DType type);
// See Optimizer::elementwise.
bool IsElementwise(const lockstep::v1::OptimizerSpec& spec);

}  // namespace lockstep
