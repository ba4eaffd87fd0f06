// SPDX-License-Identifier: Apache-2.0
// The additions of the canonical sum, by whatever vectors the processor has: elements are independent of each other,
// so the bits are the same.
#pragma once

#include <cstdint>

namespace lockstep {

struct SumKernels {
  // out[i] = a[i] + b[i]. out may be a or b, not overlap them otherwise. False: an infinity or a NaN came out.
  bool (*add)(const float* a, const float* b, float* out, int64_t n);
  // out[i] = (a[i] + b[i]) + (c[i] + d[i]), likewise.
  bool (*add4)(const float* a, const float* b, const float* c, const float* d, float* out, int64_t n);
  // False: there is an infinity or a NaN.
  bool (*finite)(const float* a, int64_t n);
  // Of the bits: another one after any change of a single number.
  uint32_t (*checksum)(const float* a, int64_t n);
};

// The best that this processor can run. Cheap.
const SumKernels& ChooseSum();

// Tells the processor that this is a busy wait.
void Pause();

namespace sum_base {
extern const SumKernels kKernels;
}
namespace sum_avx2 {
extern const SumKernels kKernels;
}
namespace sum_avx512 {
extern const SumKernels kKernels;
}

}  // namespace lockstep
