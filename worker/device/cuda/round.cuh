// SPDX-License-Identifier: Apache-2.0
// Factors of products, rounded to nearest, ties to even.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "worker/device/device.h"

namespace lockstep::cuda {

// The bits of the 16.
struct ToBf16 {
  __device__ uint16_t operator()(float x) const { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
};
struct ToFloat16 {
  __device__ uint16_t operator()(float x) const { return __half_as_ushort(__float2half_rn(x)); }
};

struct FromBf16 {
  __device__ float operator()(uint16_t bits) const { return __bfloat162float(__ushort_as_bfloat16(bits)); }
};
struct FromFloat16 {
  __device__ float operator()(uint16_t bits) const { return __half2float(__ushort_as_half(bits)); }
};

// The same numbers as floats: TF32 holds every BF16 and every FP16 number exactly. Other precisions round in the
// library, or not at all.
struct ToFloat {
  ProductPrecision precision;
  __device__ float operator()(float x) const {
    if (precision == ProductPrecision::kBf16) return __bfloat162float(__float2bfloat16_rn(x));
    return precision == ProductPrecision::kFloat16 ? __half2float(__float2half_rn(x)) : x;
  }
};

}  // namespace lockstep::cuda
