// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string_view>

#include "worker/nn/layer.h"

namespace lockstep {

#define LOCKSTEP_LAYER(kind, Name) std::unique_ptr<Layer> Make##Name(const LayerPlan& plan);
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER

std::unique_ptr<Layer> MakeLayer(const LayerPlan& plan) {
#define LOCKSTEP_LAYER(registered, Name) \
  if (plan.kind == #registered) return Make##Name(plan);
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
  // A plan of a kind that is not in the registry is a bug.
  std::abort();
}

}  // namespace lockstep
