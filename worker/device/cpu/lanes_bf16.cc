// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/lane_kernels.h"

namespace lockstep::kernels_avx512_bf16 {
namespace {
// As in lanes_avx512.cc.
constexpr int kTileFilters = 8, kOneTaps = 16, kTwoTaps = 12, kDotFilters = 4, kDotTaps = 6;
}  // namespace
#include "worker/device/cpu/lane_pair_kernels.inc"
}  // namespace lockstep::kernels_avx512_bf16
