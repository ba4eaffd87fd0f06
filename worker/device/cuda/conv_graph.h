// SPDX-License-Identifier: Apache-2.0
// A convolution channels last by cuDNN's graph interface: numbers of 16 bits, or floats multiplied as TF32, products
// added in float; bias and ReLU behind a forward pass in the same kernel, in float too. cuDNN's own functions for
// convolutions have nothing behind.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/device/cuda/conv_product.h"
#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// What is done behind a forward pass.
struct ConvEpilogue {
  bool bias = false;
  bool relu = false;
  bool any() const { return bias || relu; }
};

// Of the numbers in memory: kF32, kBF16 or kF16.
struct ConvTypes {
  // Both.
  DType factors = DType::kF32;
  // And of a bias.
  DType result = DType::kF32;
};

// Of one device, and of one thread like it.
class GraphConv {
 public:
  // Null: cuDNN has no engine for it that is deterministic, adds the products as they are, in float, and is compiled
  // already: another takes seconds for each shape at a job's start. Asks the library: not while the stream is recorded.
  // The product's precision: not kFloat.
  static std::unique_ptr<GraphConv> Make(Context& context, const ConvProduct& product, const ConvTypes& types,
                                         const ConvEpilogue& epilogue);
  ~GraphConv();
  GraphConv(const GraphConv&) = delete;
  GraphConv& operator=(const GraphConv&) = delete;

  // As of LegacyConv; all addresses are multiples of 16. bias: null without one.
  void Run(Context& context, const void* first, const void* second, const void* bias, void* out) const;

 private:
  GraphConv() = default;
  bool Build(Context& context, const ConvProduct& product, const ConvTypes& types, const ConvEpilogue& epilogue);
  cudnnBackendDescriptor_t Operations(Context& context, const ConvProduct& product, const ConvTypes& types,
                                      const ConvEpilogue& epilogue);
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
