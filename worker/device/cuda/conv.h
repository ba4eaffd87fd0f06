// SPDX-License-Identifier: Apache-2.0
// Convolution (see Device), by cuDNN where it has a deterministic algorithm that adds products as they are (no
// transforms, which round differently from shape to shape), else by the kernels of conv_kernels.h. In kFloat no product
// is rounded; in the other precisions factors are rounded first. Images of 16 bits are multiplied as such
// (conv_graph.h), and where the library does not take them, as floats. Floats that are rounded to 16 bits are
// multiplied as TF32, which holds them exactly, channels last with what is behind a forward pass in the same kernel.
// What the library does not take channels last goes through the other layout.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "worker/device/cuda/conv_product.h"
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

  // What a plan is found by; shapes are those of the forward pass.
  struct Request {
    ConvPass pass = ConvPass::kForward;
    // Of all images.
    Layout layout = Layout::kRowMajor;
    DType type = DType::kF32;
    const WindowArgs& args;
    const Shape& x;
    const Shape& kernel;
    const Shape& y;
    // Of a forward pass, to be done behind it if the library can.
    bool bias = false, relu = false;
    // Every address is a multiple of 16 bytes.
    bool aligned = true;
  };
  class Plan;
  // The first call of a request makes the plan: not while the stream is recorded.
  Plan& Find(Context& context, const Request& request);

 private:
  std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans_;
  // Reused by Find, so that a lookup allocates nothing.
  std::vector<int64_t> key_;
};

void ConvForward(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias,
                 const ActivationArgs& activation, Tensor y);
void ConvBackwardInput(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor dy, Tensor kernel,
                       const ActivationArgs& before, Tensor x, Tensor dx);
void ConvBackwardKernel(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel,
                        Tensor dbias);

}  // namespace lockstep::cuda
