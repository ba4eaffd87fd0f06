// SPDX-License-Identifier: Apache-2.0
// How element-wise functors are declared. They are forced inline because the CPU kernels are compiled
// once per instruction set: an out-of-line copy could be linked into code for a lesser machine.
#pragma once

#include "common/rng.h"

#define LOCKSTEP_MATH LOCKSTEP_HOST_DEVICE __attribute__((always_inline)) inline
// For what chooses a functor, which is the host's work.
#define LOCKSTEP_MATH_CHOICE __attribute__((always_inline)) inline
