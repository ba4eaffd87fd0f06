// SPDX-License-Identifier: Apache-2.0
// Convolutions as both of cuDNN's interfaces mean them, by plain loops over strided images.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cudnn.h>

#include <array>
#include <cstdint>

namespace lockstep::emulated {

// Images [n, c, h, w], or a kernel [k, c, h, w], as they lie in memory.
struct Images {
  std::array<int64_t, 4> dims{}, strides{};
  cudnnDataType_t type = CUDNN_DATA_FLOAT;

  int64_t At(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
  }
  int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

struct ConvWindow {
  std::array<int64_t, 2> pad{}, stride{1, 1}, dilation{1, 1};
  int64_t groups = 1;
};

inline float Read(const void* data, cudnnDataType_t type, int64_t i) {
  switch (type) {
    case CUDNN_DATA_BFLOAT16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    case CUDNN_DATA_HALF:
      return __half2float(static_cast<const __half*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

inline void Write(void* data, cudnnDataType_t type, int64_t i, float value) {
  switch (type) {
    case CUDNN_DATA_BFLOAT16:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
      break;
    case CUDNN_DATA_HALF:
      static_cast<__half*>(data)[i] = __float2half_rn(value);
      break;
    default:
      static_cast<float*>(data)[i] = value;
  }
}

// visit(index in x, index in the kernel, index in y) of every product.
template <typename Visit>
void ForProducts(const Images& x, const Images& k, const ConvWindow& window, const Images& y, Visit visit) {
  const int64_t places = k.dims[2] * k.dims[3], filters = k.dims[0] / window.groups;
  for (int64_t n = 0; n < y.dims[0]; ++n) {
    for (int64_t f = 0; f < k.dims[0]; ++f) {
      for (int64_t at = 0; at < y.dims[2] * y.dims[3] * k.dims[1] * places; ++at) {
        const int64_t q = at % k.dims[3], p = at / k.dims[3] % k.dims[2], c = at / places % k.dims[1];
        const int64_t place = at / (places * k.dims[1]), i = place / y.dims[3], j = place % y.dims[3];
        const int64_t row = i * window.stride[0] - window.pad[0] + p * window.dilation[0];
        const int64_t column = j * window.stride[1] - window.pad[1] + q * window.dilation[1];
        if (row < 0 || row >= x.dims[2] || column < 0 || column >= x.dims[3]) continue;
        visit(x.At(n, f / filters * k.dims[1] + c, row, column), k.At(f, c, p, q), y.At(n, f, i, j));
      }
    }
  }
}

// What the library checks before it computes: that the output is of the size that follows.
inline bool Fits(const Images& x, const Images& k, const ConvWindow& window, const Images& y) {
  const auto out = [&](size_t axis) {
    const int64_t reach = (k.dims[axis + 2] - 1) * window.dilation[axis] + 1;
    return (x.dims[axis + 2] + 2 * window.pad[axis] - reach) / window.stride[axis] + 1;
  };
  return x.dims[1] == k.dims[1] * window.groups && y.dims[1] == k.dims[0] && x.dims[0] == y.dims[0] &&
         y.dims[2] == out(0) && y.dims[3] == out(1);
}

}  // namespace lockstep::emulated
