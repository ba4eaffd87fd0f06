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

// visit(T{}) for the type that the tensor's numbers are stored in; not kF64.
template <typename F>
void VisitFactor(DType type, F visit) {
  if (type == DType::kBF16) return visit(Bf16{});
  if (type == DType::kF16) return visit(Float16{});
  visit(float{});
}

// The same with kF64.
template <typename F>
void VisitStored(DType type, F visit) {
  if (type == DType::kF64) return visit(double{});
  VisitFactor(type, visit);
}

// visit(From{}, To{}) of a type and itself, or of floats and a type of 16 bits, either way.
template <typename F>
void VisitConversion(DType from, DType to, F visit) {
  if (from == to) return VisitStored(to, [&]<typename T>(T same) { visit(same, same); });
  VisitFactor(from == DType::kF32 ? to : from, [&]<typename T>(T factor) {
    if constexpr (sizeof(T) < sizeof(float)) from == DType::kF32 ? visit(float{}, factor) : visit(factor, float{});
  });
}

}  // namespace lockstep::cuda
