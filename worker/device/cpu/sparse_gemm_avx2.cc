// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/sparse_gemm.h"

namespace lockstep::kernels_avx2 {
namespace {

#include "worker/device/cpu/vector_impl.h"
// After the general one.
#include "worker/device/cpu/vector_avx2.h"

struct Entries {
  static LOCKSTEP_INLINE int64_t Append(const float* x, int64_t count, uint8_t first, float* values, uint8_t* places) {
    int64_t used = 0;
    for (int64_t i = 0; i < count; ++i) {
      values[used] = x[i];
      places[used] = static_cast<uint8_t>(first + i);
      // True of what is not a number.
      used += x[i] != 0;
    }
    return used;
  }
  static LOCKSTEP_INLINE void Columns(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to,
                                      int64_t to_stride) {
    for (int64_t c = 0; c < 16; ++c) {
      for (int64_t r = 0; r < 16; ++r) to[c * to_stride + r] = c < columns && r < rows ? from[r * stride + c] : 0;
    }
  }
};

#include "worker/device/cpu/sparse_gemm_impl.h"

}  // namespace

const SparseKernels kSparse = {RunSparseGemm, CountNonZeros};

}  // namespace lockstep::kernels_avx2
