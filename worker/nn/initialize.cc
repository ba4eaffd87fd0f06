// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/initialize.h"

#include <cmath>

namespace lockstep {

void InitializeTensor(Device& device, Tensor out, const ParameterPlan& plan, const RngStream& stream) {
  const double fan_in = static_cast<double>(plan.fan_in), fan_out = static_cast<double>(plan.fan_out);
  const auto uniform = [&](double limit) { device.RandomUniform(out, stream, -limit, limit); };
  switch (plan.initializer.kind_case()) {
    case v1::InitializerSpec::kGlorotUniform:
      return uniform(std::sqrt(6.0 / (fan_in + fan_out)));
    case v1::InitializerSpec::kHeUniform:
      return uniform(std::sqrt(6.0 / fan_in));
    default:
      device.Fill(out, 0);
  }
}

}  // namespace lockstep
