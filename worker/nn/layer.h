// SPDX-License-Identifier: Apache-2.0
// Layer: forward and backward of one layer, written once over Device. A layer holds views of its
// parameters and no activations; the model owns those.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/model/model_plan.h"
#include "worker/device/device.h"

namespace lockstep {

// What a call is part of.
struct StepContext {
  Device* device = nullptr;
  bool training = false;
  uint64_t seed = 0;
  // The global step, and the place in the global batch of the first row: random layers key on both.
  int64_t step = 0;
  int64_t first_row = 0;
  // The layer's place in the model, set by the model.
  int layer_index = 0;
  // An element-wise activation to apply to y at once: set by the model for layers that say they can.
  Activation fused_activation = Activation::kLinear;
};

class Layer {
 public:
  virtual ~Layer() = default;

  // True: y holds the same numbers as x in the same order, so both may be the same memory.
  virtual bool is_view() const { return false; }
  // Not kLinear: the layer only applies this function, so the layer before it may do so instead.
  virtual Activation fusable_activation() const { return Activation::kLinear; }
  // True: Forward applies StepContext::fused_activation.
  virtual bool can_fuse() const { return false; }

  // x: [rows, input...], y: [rows, output...]; overwrites y. parameters: one view per
  // LayerPlan::parameters, in order.
  virtual void Forward(const StepContext& context, std::span<const Tensor> parameters, Tensor x, Tensor y) = 0;
  // Overwrites dx (null data: not wanted) and the gradients (shapes as the parameters).
  virtual void Backward(const StepContext& context, std::span<const Tensor> parameters, Tensor x, Tensor y, Tensor dy,
                        std::span<const Tensor> gradients, Tensor dx) = 0;
};

// By the plan's kind, which the registry must know.
std::unique_ptr<Layer> MakeLayer(const LayerPlan& plan);

}  // namespace lockstep
