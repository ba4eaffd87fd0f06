// SPDX-License-Identifier: Apache-2.0
// CUDA's events: all that was enqueued before one is done when it is recorded.
#include <cuda_runtime_api.h>

#include <chrono>

#include "tests/emulator/capture.h"

using lockstep::emulated::Capturing;
using lockstep::emulated::CheckStream;

// The toolkit's headers leave open what an event is.
struct CUevent_st {
  bool timed = true;
  bool recorded = false;
  // Newest in a capture: it stands for a node of a graph, and cannot be waited for.
  bool captured = false;
  std::chrono::steady_clock::time_point time;
};

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{.timed = (flags & cudaEventDisableTiming) == 0};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  CheckStream(stream);
  event->captured = Capturing();
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  return event->captured ? cudaErrorCapturedEvent : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaEventQuery(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (from == nullptr || to == nullptr || !from->timed || !to->timed || !from->recorded || !to->recorded) {
    return cudaErrorInvalidResourceHandle;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

}  // extern "C"
