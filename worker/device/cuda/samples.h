// SPDX-License-Identifier: Apache-2.0
// What a recorded step does by the number of the step that runs; see StepRecorder.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/step_recorder.h"

namespace lockstep::cuda {

void GatherSamples(Context& context, const SampleTable& table, int64_t first, Tensor inputs, Tensor targets);
// results: [steps, sums and extra], on the GPU.
void Decide(Context& context, Tensor sums, Tensor extra, Tensor flag, Tensor gradient, double* results);

}  // namespace lockstep::cuda
