// SPDX-License-Identifier: Apache-2.0
// Numbers of 16 bits, as tests see them.
#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>

#include "worker/device/device.h"

namespace lockstep::conformance {

struct Kind {
  std::string name;
  ProductPrecision precision;
  DType type;
  // A number is off by at most this part of it.
  double rounding;
};

inline void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

inline const Kind kKinds[] = {{"bf16", ProductPrecision::kBf16, DType::kBF16, 0x1p-8},
                              {"float16", ProductPrecision::kFloat16, DType::kF16, 0x1p-11}};

// Of kF32, kF64, kBF16 or kF16.
inline double Get(const Tensor& t, int64_t i) {
  if (t.type == DType::kF64) return t.as<double>()[i];
  if (t.type == DType::kF32) return t.as<float>()[i];
  const uint16_t bits = t.as<uint16_t>()[i];
  const int exponent_bits = t.type == DType::kBF16 ? 8 : 5, fraction_bits = 15 - exponent_bits;
  const int exponent = (bits & 0x7fff) >> fraction_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const double fraction = (bits & ((1 << fraction_bits) - 1)) / static_cast<double>(1 << fraction_bits);
  const double size = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return (bits & 0x8000) != 0 ? -size : size;
}

}  // namespace lockstep::conformance
