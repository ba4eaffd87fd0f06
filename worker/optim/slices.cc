// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/slices.h"

#include <algorithm>
#include <string>

#include "common/pattern.h"

namespace lockstep {

std::vector<Slice> MakeSlices(const std::vector<OptimizedTensor>& tensors, const v1::OptimizerSpec& spec,
                              double default_weight_decay, bool each_tensor) {
  const double decay = spec.has_weight_decay() ? spec.weight_decay() : default_weight_decay;
  std::vector<Slice> slices;
  // The newest slice ends where the tensor before this one does.
  bool adjacent = false;
  for (const OptimizedTensor& t : tensors) {
    if (!t.trainable) {
      adjacent = false;
      continue;
    }
    const bool excluded = std::ranges::any_of(spec.weight_decay_exclude(),
                                              [&](const std::string& p) { return MatchesPattern(t.name, p); });
    const Slice slice{t.offset, t.elements, excluded ? 0 : decay, t.l1, t.l2};
    Slice* last = slices.empty() ? nullptr : &slices.back();
    if (adjacent && !each_tensor && last->weight_decay == slice.weight_decay && last->l1 == slice.l1 &&
        last->l2 == slice.l2) {
      last->elements = t.offset + t.elements - last->offset;
    } else {
      slices.push_back(slice);
    }
    adjacent = true;
  }
  return slices;
}

}  // namespace lockstep
