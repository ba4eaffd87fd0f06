// SPDX-License-Identifier: Apache-2.0
// Matrix products through cuBLASLt. The algorithm of a shape is the library's own first choice, asked for once and
// remembered: the same on every rank with the same GPU and library, so the bits are. What an epilogue of the library
// does not do, kernels of our own do behind the product.
#pragma once

#include <map>
#include <memory>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/cuda/gemm_plan.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

class GemmCache {
 public:
  GemmCache();
  ~GemmCache();
  GemmCache(const GemmCache&) = delete;
  GemmCache& operator=(const GemmCache&) = delete;

  // See Device::Gemm.
  void Run(Context& context, const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

 private:
  class Entry;
  // Of a matrix that is kept as factors are, where the library does not do all behind the product: in floats first.
  void RunWide(Context& context, const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

  // Null where the library has no algorithm.
  Entry* Find(Context& context, const GemmPlan& plan);

  // The best of the epilogues that the library takes; null as of Find.
  Entry* Choose(Context& context, const GemmArgs& args, const Tensor& a, const Tensor& b, bool has_bias,
                const Tensor& out, bool aligned);

  std::map<GemmPlan, std::unique_ptr<Entry>> entries_;
  // Whether the newest product that was given this mask has left its bits there.
  std::map<const void*, bool> masks_;
};

// to[i] = x[i] rounded to BF16 or to half precision, n of them.
void RoundFactor(Context& context, ProductPrecision precision, const float* x, int64_t n, void* to);
// to[i] = factor[i] as a float: of kBF16 or kF16.
void WidenFactor(Context& context, const Tensor& factor, float* to);

}  // namespace lockstep::cuda
