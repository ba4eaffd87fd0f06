// SPDX-License-Identifier: Apache-2.0
// Is told while backward goes on which gradients are final, so that they can travel meanwhile.
#pragma once

namespace lockstep {

class GradientWatcher {
 public:
  virtual ~GradientWatcher() = default;
  // All that the flat gradient will hold of this layer of the plan and of those behind it has just been enqueued on the
  // device: what is trained, what is not, moving statistics, and the padding. `layer` falls from call to call. Not
  // called for a micro-batch without rows, whose gradient is written at once.
  virtual void LayersDone(int layer) = 0;
};

}  // namespace lockstep
