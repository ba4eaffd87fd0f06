// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string_view>

#include "worker/nn/loss.h"

namespace lockstep {

#define LOCKSTEP_LOSS(kind, Name) std::unique_ptr<Loss> Make##Name(const v1::LossSpec& spec);
#include "worker/nn/losses/registry.def"
#undef LOCKSTEP_LOSS

std::unique_ptr<Loss> MakeLoss(const v1::LossSpec& spec) {
  const auto* field = v1::LossSpec::descriptor()->FindFieldByNumber(spec.kind_case());
  const std::string_view name = field == nullptr ? std::string_view() : std::string_view(field->name());
#define LOCKSTEP_LOSS(kind, Name) \
  if (name == #kind) return Make##Name(spec);
#include "worker/nn/losses/registry.def"
#undef LOCKSTEP_LOSS
  // The spec was validated: a bug.
  std::abort();
}

}  // namespace lockstep
