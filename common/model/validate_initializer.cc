// SPDX-License-Identifier: Apache-2.0
#include "common/model/checks.h"

namespace lockstep {

void CheckInitializer(const v1::InitializerSpec&, const Shape&, const std::string&, Violations&) {}

}  // namespace lockstep
