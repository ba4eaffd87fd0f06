// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "worker/comm/sum.h"

namespace lockstep {

const SumKernels& ChooseSum() { return sum_base::kKernels; }

void Pause() { std::this_thread::yield(); }

}  // namespace lockstep
