// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/lane_kernels.h"

#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_avx2.h"

namespace lockstep::kernels_avx2 {
namespace {
// What the registers hold: filters of a convolution's tile, taps of a gradient's tile with one vector of filters
// and with two (0: never two), filters and taps of one whose samples stay in the lanes.
constexpr int kTileFilters = 6, kOneTaps = 6, kTwoTaps = 0, kDotFilters = 2, kDotTaps = 2;
}  // namespace
#include "worker/device/cpu/lane_kernels.inc"
}  // namespace lockstep::kernels_avx2
