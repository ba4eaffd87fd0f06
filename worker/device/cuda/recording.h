// SPDX-License-Identifier: Apache-2.0
// What the device's operations know of a step that is being recorded; see StepRecorder.
#pragma once

#include <cstdint>

#include "worker/device/update.h"

namespace lockstep::cuda {

// In the GPU's memory: how far a run of recorded steps is.
struct StepCursor {
  // The step that runs.
  int64_t step = 0;
  // Steps done in this run, which is the running step's place in it.
  int64_t done = 0;
  // The place of the step that was decided last.
  int64_t decided = 0;
  // Not 0: nothing that lasts is changed any more.
  int64_t halted = 0;
  // Not 0: the gradient was looked through, and is not finite.
  int64_t not_finite = 0;
};

// One for each step of a run; a step's calls of ApplyUpdate have one each.
struct UpdateTable {
  const UpdateArgs* args = nullptr;
  int64_t calls = 0;
};

struct Recording {
  // On the GPU; null: nothing is recorded.
  StepCursor* cursor = nullptr;
  // The step that the calls are made for.
  int64_t step = 0;
  // The calls come behind Decide.
  bool decided = false;
  // The next call of ApplyUpdate behind Decide.
  int64_t next_update = 0;
  UpdateTable updates;
  // Memory of a gradient whose maker has told the cursor of what is not finite in it. Add makes another one of it.
  const void* looked_through = nullptr;
  // Not null: only arguments of ApplyUpdate are wanted, which go here, `updates.calls` of them at most.
  UpdateArgs* collected = nullptr;

  // Where a kernel sees that it must not change anything; null: it may.
  const int64_t* halted() const { return cursor != nullptr && decided ? &cursor->halted : nullptr; }
};

}  // namespace lockstep::cuda
