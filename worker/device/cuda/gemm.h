// SPDX-License-Identifier: Apache-2.0
// Matrix products through cuBLASLt. The algorithm of a shape is the library's own first choice, asked for once and
// remembered: the same on every rank with the same GPU and library, so the bits are.
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
  // Null where the library has no algorithm, which is noted.
  Entry* Find(Context& context, const GemmPlan& plan);

  std::map<GemmPlan, std::unique_ptr<Entry>> entries_;
};

// to[i] = x[i] rounded to BF16 or to half precision, n of them.
void RoundFactor(Context& context, ProductPrecision precision, const float* x, int64_t n, void* to);

}  // namespace lockstep::cuda
