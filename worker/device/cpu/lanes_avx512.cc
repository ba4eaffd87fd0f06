// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/lane_kernels.h"

#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_avx512.h"

namespace lockstep::kernels_avx512 {
namespace {
// What the registers hold: filters of a convolution's tile, taps of a gradient's tile with one vector of filters
// and with two (0: never two), filters and taps of one whose samples stay in the lanes.
constexpr int kTileFilters = 8, kOneTaps = 16, kTwoTaps = 12, kDotFilters = 4, kDotTaps = 6;
}  // namespace
#include "worker/device/cpu/lane_kernels.inc"
}  // namespace lockstep::kernels_avx512
