// SPDX-License-Identifier: Apache-2.0
#include "common/status_macros.h"
#include "worker/optim/registry.h"

namespace lockstep {

absl::StatusOr<StateArray> StateArray::Make(Device& device, int64_t elements, DType type) {
  StateArray state;
  LOCKSTEP_ASSIGN_OR_RETURN(state.buffer, device.Allocate(static_cast<size_t>(elements) * SizeOf(type)));
  state.tensor = {state.buffer->data(), Shape{elements}, type};
  return state;
}

}  // namespace lockstep
