// SPDX-License-Identifier: Apache-2.0
// Convolution of row-major images (see Device), by cuDNN where it has a deterministic algorithm that adds products as
// they are (no transforms, which round differently from shape to shape), else by the kernels of conv_kernels.h. In
// kFloat no product is rounded; in the other precisions factors are rounded first, and multiplied as TF32, which holds
// them exactly.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// What cuDNN was asked once for each shape. Of one device, and of one thread like it.
class ConvPlans {
 public:
  ConvPlans();
  ~ConvPlans();
  ConvPlans(const ConvPlans&) = delete;
  ConvPlans& operator=(const ConvPlans&) = delete;

  enum class Pass : uint8_t { kForward, kInput, kKernel };
  class Plan;
  // The first call of a shape makes the plan: not while the stream is recorded. Shapes: x, kernel and y of the
  // forward pass.
  Plan& Find(Context& context, Pass pass, const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y);

 private:
  std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans_;
  // Reused by Find, so that a lookup allocates nothing.
  std::vector<int64_t> key_;
};

// Row-major, whatever the shape.
Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type);

void ConvForward(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias,
                 const ActivationArgs& activation, Tensor y);
void ConvBackwardInput(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor dy, Tensor kernel,
                       const ActivationArgs& before, Tensor x, Tensor dx);
void ConvBackwardKernel(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel,
                        Tensor dbias);

}  // namespace lockstep::cuda
