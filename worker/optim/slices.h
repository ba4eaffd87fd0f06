// SPDX-License-Identifier: Apache-2.0
// Slices: the pieces of the flat arrays that an update treats alike. In the common case there is one.
#pragma once

#include <cstdint>
#include <vector>

#include "lockstep/v1/optimizer.pb.h"
#include "worker/optim/optimizer.h"

namespace lockstep {

struct Slice {
  int64_t offset = 0;
  int64_t elements = 0;
  double weight_decay = 0;
  double l1 = 0;
  double l2 = 0;
};

// Of the trainable tensors. Neighbours with the same settings are one, with what is between them, unless
// each tensor counts for itself. Tensors that match weight_decay_exclude do not decay.
std::vector<Slice> MakeSlices(const std::vector<OptimizedTensor>& tensors, const lockstep::v1::OptimizerSpec& spec,
                              double default_weight_decay, bool each_tensor);

}  // namespace lockstep
