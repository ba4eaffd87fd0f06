// SPDX-License-Identifier: Apache-2.0
// Kinds of layers by name, as registry.def lists them.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/model/model_plan.h"

namespace lockstep {

// Null where no layer has that name.
DescribeFunction FindDescribe(absl::string_view kind);
// Every name, in the order of registry.def.
const std::vector<std::string>& LayerKinds();
// The kind that is set in `spec`: the name of its field in the oneof. Empty where none is.
std::string LayerKind(const lockstep::v1::LayerSpec& spec);
// Sets `kind` of `spec` with default attributes. False where there is no such kind.
bool SetLayerKind(lockstep::v1::LayerSpec& spec, absl::string_view kind);

}  // namespace lockstep
