// SPDX-License-Identifier: Apache-2.0
// Layer: forward and backward of one layer, written once over Device. A layer holds no activations and
// no parameters; the model owns those.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/model/model_plan.h"
#include "worker/device/device.h"
#include "worker/nn/gradient_watcher.h"

namespace lockstep {

// A kernel's gradient that was not worked out: it is x^T dy, and its place is `gradient`. Null data: there is none.
struct DeferredProduct {
  Tensor x;
  Tensor dy;
  Tensor gradient;
};

// What a step's calls are part of.
struct StepContext {
  Device* device = nullptr;
  bool training = false;
  uint64_t seed = 0;
  // The global step, and the place in the global batch of the first row: random layers key on both.
  int64_t step = 0;
  int64_t first_row = 0;
  // Samples in the global batch; 0: no more than this call's rows.
  int64_t batch_rows = 0;
  // Of products; set by the model while training.
  ProductPrecision precision = ProductPrecision::kFloat;
  // Told of what Model::ForwardBackward is through with; null: nobody.
  GradientWatcher* watcher = nullptr;
  // Where one layer may leave its kernel's gradient; null: nowhere.
  DeferredProduct* deferred = nullptr;
};

// The same with what one layer has of its own.
struct LayerContext : StepContext {
  // The layer's place in the model.
  int layer_index = 0;
  // An element-wise activation to apply to y at once, for layers that say they can.
  ActivationArgs fused_activation = {};
  // The element-wise activation that put out x, whose gradient Backward applies to dx at once, for layers that say they
  // can.
  ActivationArgs source_activation = {};
  // `scratch` of the layer that this activation was fused into.
  Tensor source_scratch = {};
  // kF64 [scratch_size]: what forward leaves for backward. Zero at first, else as the last call left it.
  Tensor scratch = {};
};

// For which a layer picks a layout.
struct LayoutChoice {
  // [rows, input...] of the largest micro-batch.
  Shape x;
  DType type = DType::kF32;
  ProductPrecision precision = ProductPrecision::kFloat;
  // In which an input comes; not kRowMajor where one of several does not.
  Layout source = Layout::kRowMajor;
};

class Layer {
 public:
  virtual ~Layer() = default;

  // True: y holds the same numbers as x in the same order, so both may be the same memory.
  virtual bool is_view() const { return false; }
  // Not linear: the layer only applies this function, so the layer before it may do so instead.
  virtual ActivationArgs fusable_activation() const { return {}; }
  // True: Forward applies LayerContext::fused_activation.
  virtual bool can_fuse() const { return false; }
  // True: Backward applies the gradient of LayerContext::source_activation.
  virtual bool can_fuse_source_gradient() const { return false; }
  // True: the gradient of the first input is dy, so both may be the same memory.
  virtual bool passes_gradient() const { return false; }
  // True: Device::Gemm alone reads and writes x, y and their gradients, and reads the first parameter, so that they may
  // be of Device::FactorType.
  virtual bool only_multiplies() const { return false; }
  // The layout of its inputs and its output. Only layers that call nothing but what Device does in any layout may say
  // another than kRowMajor; then x, y and their gradients may be of Device::FactorType.
  virtual Layout PickLayout(const Device& device, const LayoutChoice& choice) const {
    static_cast<void>(device), static_cast<void>(choice);
    return Layout::kRowMajor;
  }
  // Doubles of LayerContext::scratch for micro-batches of up to `rows`.
  virtual int64_t scratch_size(int64_t rows) const {
    static_cast<void>(rows);
    return 0;
  }

  // Not 0: the layer normalises over the whole batch. While training, the model calls Sums for every
  // shard, adds those of all shards into scratch [0, width), and calls Forward only then; likewise
  // GradientSums, into scratch [width, 2 width), before Backward.
  virtual int64_t batch_sums_width() const { return 0; }
  // Overwrites sums: kF64 [batch_sums_width].
  virtual void Sums(const LayerContext& context, Tensor x, Tensor sums) {
    static_cast<void>(context), static_cast<void>(x), static_cast<void>(sums);
  }
  virtual void GradientSums(const LayerContext& context, Tensor x, Tensor dy, Tensor sums) {
    static_cast<void>(context), static_cast<void>(x), static_cast<void>(dy), static_cast<void>(sums);
  }

  // x: one [rows, input...] for each of the plan's inputs, y: [rows, output...]; overwrites y.
  // parameters: one view per LayerPlan::parameters, in order.
  virtual void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
                       Tensor y) = 0;
  // Overwrites each dx (null data: not wanted) and the gradients (shapes as the parameters; those of
  // moving statistics get this shard's share of the new ones).
  virtual void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
                        Tensor y, Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) = 0;
};

// By the plan's kind, which the registry must know.
std::unique_ptr<Layer> MakeLayer(const LayerPlan& plan);

}  // namespace lockstep
