// SPDX-License-Identifier: Apache-2.0
// Numbers as they lie in memory, and the type that they are computed in. Of 16 bits, each is widened when it is loaded,
// and rounded once when it is stored.
#pragma once

#include <cstdint>

#include "worker/device/cuda/round.cuh"
#include "worker/device/tensor.h"

namespace lockstep::cuda {

struct Bf16 {
  uint16_t bits;

  Bf16() = default;
  __device__ explicit Bf16(float x) : bits(ToBf16{}(x)) {}
  // Implicit, since it is the same number.
  __device__ operator float() const { return FromBf16{}(bits); }
};

struct Float16 {
  uint16_t bits;

  Float16() = default;
  __device__ explicit Float16(float x) : bits(ToFloat16{}(x)) {}
  __device__ operator float() const { return FromFloat16{}(bits); }
};

template <typename T>
struct ComputedIn {
  using Type = T;
};
template <>
struct ComputedIn<Bf16> {
  using Type = float;
};
template <>
struct ComputedIn<Float16> {
  using Type = float;
};
template <typename T>
using Real = typename ComputedIn<T>::Type;

// visit(T{}) for the type that the tensor's numbers are stored in.
template <typename F>
void VisitStored(DType type, F visit) {
  switch (type) {
    case DType::kF64:
      return visit(double{});
    case DType::kBF16:
      return visit(Bf16{});
    case DType::kF16:
      return visit(Float16{});
    default:
      return visit(float{});
  }
}

}  // namespace lockstep::cuda
