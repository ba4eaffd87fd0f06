// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/layer_work.h"

#include "absl/strings/match.h"

namespace lockstep {

LayerWork& LayerWork::operator+=(const LayerWork& other) {
  forward_flops += other.forward_flops;
  backward_flops += other.backward_flops;
  forward_bytes += other.forward_bytes;
  backward_bytes += other.backward_bytes;
  return *this;
}

LayerWork WorkOf(const LayerPlan& plan, bool wants_input_gradient, int64_t rows) {
  LayerWork work;
  const auto samples = static_cast<double>(rows);
  double inputs = 0, weights = 0;
  for (const Shape& input : plan.inputs) inputs += samples * static_cast<double>(input.elements());
  const double outputs = samples * static_cast<double>(plan.output.elements());
  for (const ParameterPlan& p : plan.parameters) {
    weights += static_cast<double>(p.shape.elements());
    if (!absl::EndsWith(p.name, "kernel")) continue;
    // dense: [in, units]; convolutions: [filters, channels, height, width], once for each place.
    const int64_t filters = p.shape.rank() == 2 ? p.shape[1] : p.shape[0];
    const double places = static_cast<double>(plan.output.elements()) / static_cast<double>(filters);
    const double product = 2 * samples * places * static_cast<double>(p.shape.elements());
    work.forward_flops += product;
    work.backward_flops += product * (wants_input_gradient ? 2 : 1);
  }
  // Forward reads x and w and writes y; backward reads x, w and dy and writes dw and dx.
  work.forward_bytes = sizeof(float) * (inputs + weights + outputs);
  work.backward_bytes = sizeof(float) * (inputs + 2 * weights + outputs + (wants_input_gradient ? inputs : 0));
  return work;
}

}  // namespace lockstep
