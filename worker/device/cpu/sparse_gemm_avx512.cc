// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/sparse_gemm.h"

namespace lockstep::kernels_avx512 {
namespace {

#include "worker/device/cpu/vector_impl.h"
// After the general one.
#include "worker/device/cpu/vector_avx512.h"

constexpr int64_t kColumns = 128;

struct Entries {
  static LOCKSTEP_INLINE int64_t Append(const float* x, int64_t count, uint8_t first, float* values, uint8_t* places) {
    const __m512 v = count == 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(FirstLanes(count), x);
    // True of what is not a number.
    const __mmask16 there = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512i place = _mm512_add_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                           _mm512_set1_epi32(first));
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(there, v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(places),
                     _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(there, place)));
    return __builtin_popcount(there);
  }
};

#include "worker/device/cpu/sparse_gemm_impl.h"

}  // namespace

const SparseKernels kSparse = {RunSparseGemm, CountNonZeros};

}  // namespace lockstep::kernels_avx512
