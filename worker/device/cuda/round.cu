// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "worker/device/cuda/gemm.h"
#include "worker/device/cuda/launch.cuh"

namespace lockstep::cuda {

namespace {

struct alignas(8) Four {
  uint16_t at[4];
};

__device__ uint16_t BitsOf(__nv_bfloat16 x) { return __bfloat16_as_ushort(x); }
__device__ uint16_t BitsOf(__half x) { return __half_as_ushort(x); }

template <typename H>
__device__ uint16_t Rounded(float x);
template <>
__device__ uint16_t Rounded<__nv_bfloat16>(float x) {
  return BitsOf(__float2bfloat16_rn(x));
}
template <>
__device__ uint16_t Rounded<__half>(float x) {
  return BitsOf(__float2half_rn(x));
}

template <typename H>
struct RoundOp {
  const float* x;
  uint16_t* to;
  __device__ void operator()(int64_t i) const { to[i] = Rounded<H>(x[i]); }
};

// Four elements at once.
template <typename H>
struct RoundFourOp {
  const float4* x;
  Four* to;
  __device__ void operator()(int64_t i) const {
    const float4 v = x[i];
    to[i] = {{Rounded<H>(v.x), Rounded<H>(v.y), Rounded<H>(v.z), Rounded<H>(v.w)}};
  }
};

template <typename H>
void RoundAs(Context& context, const float* x, int64_t n, uint16_t* to) {
  const bool aligned = reinterpret_cast<uintptr_t>(x) % sizeof(float4) == 0;
  const int64_t fours = aligned ? n / 4 : 0;
  ForEach(context, fours, RoundFourOp<H>{reinterpret_cast<const float4*>(x), reinterpret_cast<Four*>(to)});
  ForEach(context, n - 4 * fours, RoundOp<H>{x + 4 * fours, to + 4 * fours});
}

}  // namespace

void RoundFactor(Context& context, ProductPrecision precision, const float* x, int64_t n, void* to) {
  auto* const halves = static_cast<uint16_t*>(to);
  if (precision == ProductPrecision::kBf16) return RoundAs<__nv_bfloat16>(context, x, n, halves);
  RoundAs<__half>(context, x, n, halves);
}

}  // namespace lockstep::cuda
