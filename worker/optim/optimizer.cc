// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/optimizer.h"

#include "worker/optim/registry.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::OptimizerSpec& spec, Device& device,
                                                         int64_t elements, DType type) {
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kSgd:
      return MakeSgd(spec.sgd(), device, elements, type);
    case v1::OptimizerSpec::kAdam:
      return MakeAdam(spec.adam(), device, elements, type);
    default:
      break;
  }
  return absl::InvalidArgumentError("optimizer: is missing");
}

}  // namespace lockstep
