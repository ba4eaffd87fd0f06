// SPDX-License-Identifier: Apache-2.0
// From a tensor's type to a C++ type.
#pragma once

#include "worker/device/tensor.h"

namespace lockstep::cuda {

// visit(T{}) for the type that is computed in.
template <typename F>
void VisitReal(DType type, F visit) {
  if (type == DType::kF64) {
    visit(double{});
  } else {
    visit(float{});
  }
}

}  // namespace lockstep::cuda
