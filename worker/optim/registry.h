// SPDX-License-Identifier: Apache-2.0
// Every optimizer, one line each; each is a file of its own.
#pragma once

#include "worker/optim/optimizer.h"

namespace lockstep {

// Plain, momentum and Nesterov.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeSgd(const lockstep::v1::SgdOptimizer& spec, Device& device,
                                                   int64_t elements, DType type);
absl::StatusOr<std::unique_ptr<Optimizer>> MakeAdam(const lockstep::v1::AdamOptimizer& spec, Device& device,
                                                    int64_t elements, DType type);

// A zeroed flat array of optimizer state that owns its memory.
struct StateArray {
  static absl::StatusOr<StateArray> Make(Device& device, int64_t elements, DType type);
  std::unique_ptr<Buffer> buffer;
  Tensor tensor;
};

}  // namespace lockstep
