// SPDX-License-Identifier: Apache-2.0
// How much the emulated GPU is given to do.
#pragma once

#include <cstdint>

namespace lockstep::emulated {

struct Counts {
  // Kernels, products, convolutions, and memory that is copied or set.
  int64_t enqueued = 0;
  // What is enqueued is counted and not done: shapes of any size cost nothing.
  bool dry = false;
  // cuBLASLt has no epilogues for gradients.
  bool refuse_gradients = false;
};
// Of the calling thread.
extern thread_local Counts counts;

}  // namespace lockstep::emulated
