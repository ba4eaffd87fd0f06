// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/adam.h"

namespace lockstep {

std::unique_ptr<UpdateFormula> MakeAdamw(const v1::AdamwOptimizer& spec) {
  constexpr double kWeightDecay = 0.004;
  return MakeAdamOf(ReadAdam(spec), spec.amsgrad(), kWeightDecay);
}

}  // namespace lockstep
