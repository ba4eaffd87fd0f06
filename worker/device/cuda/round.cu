// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/gemm.h"
#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/round.cuh"

namespace lockstep::cuda {

namespace {

struct alignas(8) Four {
  uint16_t at[4];
};

template <typename Round>
struct RoundOp {
  const float* x;
  uint16_t* to;
  __device__ void operator()(int64_t i) const { to[i] = Round{}(x[i]); }
};

// Four elements at once.
template <typename Round>
struct RoundFourOp {
  const float4* x;
  Four* to;
  __device__ void operator()(int64_t i) const {
    const float4 v = x[i];
    to[i] = {{Round{}(v.x), Round{}(v.y), Round{}(v.z), Round{}(v.w)}};
  }
};

template <typename Widen>
struct WidenOp {
  const uint16_t* x;
  float* to;
  __device__ void operator()(int64_t i) const { to[i] = Widen{}(x[i]); }
};

template <typename Round>
void RoundAs(Context& context, const float* x, int64_t n, uint16_t* to) {
  const bool aligned = reinterpret_cast<uintptr_t>(x) % sizeof(float4) == 0;
  const int64_t fours = aligned ? n / 4 : 0;
  ForEach(context, fours, RoundFourOp<Round>{reinterpret_cast<const float4*>(x), reinterpret_cast<Four*>(to)});
  ForEach(context, n - 4 * fours, RoundOp<Round>{x + 4 * fours, to + 4 * fours});
}

}  // namespace

void RoundFactor(Context& context, ProductPrecision precision, const float* x, int64_t n, void* to) {
  auto* const halves = static_cast<uint16_t*>(to);
  if (precision == ProductPrecision::kBf16) return RoundAs<ToBf16>(context, x, n, halves);
  RoundAs<ToFloat16>(context, x, n, halves);
}

void WidenFactor(Context& context, const Tensor& factor, float* to) {
  const auto* const halves = factor.as<uint16_t>();
  if (factor.type == DType::kBF16) return ForEach(context, factor.elements(), WidenOp<FromBf16>{halves, to});
  ForEach(context, factor.elements(), WidenOp<FromFloat16>{halves, to});
}

}  // namespace lockstep::cuda
