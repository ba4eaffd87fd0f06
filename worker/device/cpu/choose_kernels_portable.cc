// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/kernels.h"

namespace lockstep::cpu {

const KernelSet& ChooseKernels() { return kBaselineKernels; }

}  // namespace lockstep::cpu
