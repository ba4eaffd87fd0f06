// SPDX-License-Identifier: Apache-2.0
// Convolution on the CPU: oneDNN for float, plain loops for double. Direct algorithms only: the faster
// transforms round differently from shape to shape.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuConv {
 public:
  explicit CpuConv(int threads);
  ~CpuConv();

  // See Device; without activation. The first call of each shape prepares it.
  void Forward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, Tensor y);
  void BackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, Tensor dx);
  void BackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias);

 private:
  class Plan;
  enum class Pass : uint8_t { kForward, kInput, kKernel };
  // The pass, whether there is a bias, and all sizes.
  using Key = std::vector<int64_t>;

  Plan& Find(Pass pass, const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y, bool bias);

  int threads_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  // Reused by Find, so that a lookup allocates nothing.
  Key key_;
};

}  // namespace lockstep::cpu
