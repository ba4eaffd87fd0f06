// SPDX-License-Identifier: Apache-2.0
// Images in blocks of 16 samples (lane_kernels.h), shared out over threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "worker/device/cpu/lane_kernels.h"
#include "worker/device/tensor.h"

namespace lockstep::cpu {

// Images as blocks.
struct Blocks {
  explicit Blocks(const Tensor& images)
      : rows(images.shape[0]), channels(images.shape[1]), places(1), count((rows + kLanes - 1) / kLanes) {
    for (int i = 2; i < images.shape.rank(); ++i) places *= images.shape[i];
    floats = channels * places * kLanes;
  }
  int64_t Samples(int64_t block) const { return std::min(kLanes, rows - block * kLanes); }
  int64_t rows, channels, places, count;
  // Of one block.
  int64_t floats;
};

inline float* Block(const Tensor& images, const Blocks& blocks, int64_t index) {
  return images.data == nullptr ? nullptr : images.as<float>() + index * blocks.floats;
}

// visit(block) for each, in any order.
template <typename Visit>
void ForBlocks(int64_t count, int threads, Visit visit) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t block = 0; block < count; ++block) visit(block);
}

// visit(thread, first block, end) for each thread.
template <typename Visit>
void ForThreads(int64_t count, int threads, Visit visit) {
  ForBlocks(threads, threads,
            [&](int64_t thread) { visit(thread, count * thread / threads, count * (thread + 1) / threads); });
}

}  // namespace lockstep::cpu
