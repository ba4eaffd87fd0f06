// SPDX-License-Identifier: Apache-2.0
#include "worker/train/loss_scale.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

namespace {

// The state: the scale, and finite steps since it last changed.
constexpr size_t kScale = 0;
constexpr size_t kSteps = 1;

}  // namespace

LossScale::LossScale(const v1::LossScaleSpec& spec)
    : initial_(spec.initial_scale() > 0 ? spec.initial_scale() : kDefaultScale),
      growth_steps_(static_cast<double>(spec.growth_steps() > 0 ? spec.growth_steps() : kDefaultGrowthSteps)) {}

std::vector<double> LossScale::InitialState() const { return {initial_, 0}; }

double LossScale::Scale(std::span<const double> state) {
  const double scale = state[kScale];
  // A damaged file may hold anything.
  if (!(scale >= kMin)) return kMin;
  return std::min(std::exp2(std::floor(std::log2(scale))), kMax);
}

int64_t LossScale::StepsUntilGrowth(std::span<const double> state) const {
  return std::max<int64_t>(1, static_cast<int64_t>(growth_steps_ - state[kSteps]));
}

void LossScale::Observe(bool finite, std::span<double> state) const {
  const double scale = Scale(state);
  if (!finite) {
    state[kScale] = std::max(kMin, scale / 2);
    state[kSteps] = 0;
  } else if (++state[kSteps] >= growth_steps_) {
    state[kScale] = std::min(kMax, scale * 2);
    state[kSteps] = 0;
  }
}

}  // namespace lockstep
