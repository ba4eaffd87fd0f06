// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/plateau.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

bool Observe(double value, bool higher_is_better, double min_delta, MonitorState& state) {
  // No comparison with a NaN is true.
  const bool better = state.known == 0   ? !std::isnan(value)
                      : higher_is_better ? value > state.best + min_delta
                                         : value < state.best - min_delta;
  if (better) {
    state.known = 1;
    state.best = value;
  }
  state.waited = better ? 0 : state.waited + 1;
  return better;
}

void ObservePlateau(const v1::ReduceOnPlateauSchedule& spec, double value, bool higher_is_better, PlateauState& state) {
  Observe(value, higher_is_better, spec.monitor().min_delta(), state.monitor);
  if (state.cooldown > 0) {
    --state.cooldown;
    state.monitor.waited = 0;
  }
  const int64_t patience = spec.has_patience() ? spec.patience() : 10;
  if (state.monitor.waited == 0 || state.monitor.waited < static_cast<double>(patience)) return;
  ++state.reductions;
  state.cooldown = static_cast<double>(spec.cooldown());
  state.monitor.waited = 0;
}

}  // namespace lockstep
