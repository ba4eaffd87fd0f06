// SPDX-License-Identifier: Apache-2.0
// A convolution of floats by cuDNN's own functions for it: every factor and the result are floats, multiplied as such
// (kFloat) or as TF32.
#pragma once

#include <cstddef>

#include "worker/device/cuda/conv_product.h"
#include "worker/device/cuda/cuda_context.h"

namespace lockstep::cuda {

// Of one device, and of one thread like it.
class LegacyConv {
 public:
  // Asks the library: not while the stream is recorded.
  LegacyConv(Context& context, const ConvProduct& product);
  ~LegacyConv();
  LegacyConv(const LegacyConv&) = delete;
  LegacyConv& operator=(const LegacyConv&) = delete;

  // False: cuDNN has no algorithm for it that is deterministic and adds the products as they are.
  bool usable() const { return usable_; }
  // Forward: x, kernel, y. Input: dy, kernel, dx. Kernel: x, dy, dkernel.
  void Run(Context& context, const float* first, const float* second, float* out) const;

 private:
  bool Describe(Context& context, const ConvProduct& product);
  bool Choose(Context& context, bool keep_math);
  cudnnStatus_t WorkspaceBytes(Context& context);

  ConvPass pass_;
  bool usable_ = false;
  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;
  cudnnFilterDescriptor_t kernel_ = nullptr;
  cudnnConvolutionDescriptor_t conv_ = nullptr;
  cudnnConvolutionFwdAlgo_t forward_{};
  cudnnConvolutionBwdDataAlgo_t input_{};
  cudnnConvolutionBwdFilterAlgo_t kernel_algorithm_{};
  size_t bytes_ = 0;
};

}  // namespace lockstep::cuda
