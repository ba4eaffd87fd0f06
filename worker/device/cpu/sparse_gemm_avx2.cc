// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/sparse_gemm.h"

namespace lockstep::kernels_avx2 {
namespace {

#include "worker/device/cpu/vector_impl.h"
// After the general one.
#include "worker/device/cpu/vector_avx2.h"

constexpr int64_t kColumns = 64;

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
};

#include "worker/device/cpu/sparse_gemm_impl.h"

}  // namespace

const SparseKernels kSparse = {RunSparseGemm, CountNonZeros};

}  // namespace lockstep::kernels_avx2
