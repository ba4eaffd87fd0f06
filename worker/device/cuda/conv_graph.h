// SPDX-License-Identifier: Apache-2.0
// A convolution channels last by cuDNN's graph interface: factors of 16 bits, products added in float and left as
// floats, which cuDNN's own functions for convolutions cannot; bias and ReLU behind a forward pass in the same kernel.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/device/cuda/conv_product.h"
#include "worker/device/cuda/cuda_context.h"

namespace lockstep::cuda {

// What is done behind a forward pass.
struct ConvEpilogue {
  bool bias = false;
  bool relu = false;
  bool any() const { return bias || relu; }
};

// Of one device, and of one thread like it.
class GraphConv {
 public:
  // Null: cuDNN has no engine for it that is deterministic and adds the products as they are, in float. Asks the
  // library, which may compile: not while the stream is recorded. The product's precision: kBf16 or kFloat16.
  static std::unique_ptr<GraphConv> Make(Context& context, const ConvProduct& product, const ConvEpilogue& epilogue);
  ~GraphConv();
  GraphConv(const GraphConv&) = delete;
  GraphConv& operator=(const GraphConv&) = delete;

  // As of LegacyConv; all addresses are multiples of 16. bias: null without one.
  void Run(Context& context, const void* first, const void* second, const float* bias, float* out) const;

 private:
  GraphConv() = default;
  bool Build(Context& context, const ConvProduct& product, const ConvEpilogue& epilogue);
  cudnnBackendDescriptor_t Operations(Context& context, const ConvProduct& product, const ConvEpilogue& epilogue);
  bool Choose(Context& context, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode);
  bool Plan(Context& context, cudnnBackendDescriptor_t config);
  // Owned by this object; null where the library has no memory for it.
  cudnnBackendDescriptor_t New(cudnnBackendDescriptorType_t type);

  std::vector<cudnnBackendDescriptor_t> owned_;
  cudnnBackendDescriptor_t plan_ = nullptr;
  bool has_bias_ = false;
  int64_t bytes_ = 0;
};

}  // namespace lockstep::cuda
