// SPDX-License-Identifier: Apache-2.0
// A large product spread over a device's threads. The split is by columns or rows of the output, so no bit depends
// on it.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "worker/device/cpu/large_gemm.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

// True: the kernels of large products apply this activation themselves.
inline bool AppliesActivation(const ActivationArgs& activation) {
  return activation.linear() || activation.kind == Activation::kRelu;
}

// As Device::Gemm, of float tensors, none of the sizes 0, with an activation that AppliesActivation; without `pack`.
LargeGemmProblem ProblemOf(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

// run(part, problem) for as many parts as threads, where there is so much to do; cut between panels of so many columns,
// or between rows where there are fewer panels than parts.
void RunParts(const LargeGemmProblem& whole, int threads, int64_t panel_columns,
              absl::FunctionRef<void(int part, LargeGemmProblem problem)> run);

}  // namespace lockstep::cpu
