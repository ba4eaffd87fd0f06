// SPDX-License-Identifier: Apache-2.0
// Watches a model at work, layer by layer; for measurements alone, training has none.
#pragma once

#include <cstdint>

namespace lockstep {

enum class Pass : uint8_t { kForward, kLoss, kBackward };

class NodeObserver {
 public:
  virtual ~NodeObserver() = default;
  // A layer's part of a pass has just been enqueued. `layer`: its index in the model's plan, with a function that was
  // fused into it; for the loss, how many layers there are.
  virtual void Done(Pass pass, int layer) = 0;
};

}  // namespace lockstep
