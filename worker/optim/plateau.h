// SPDX-License-Identifier: Apache-2.0
// What training remembers of the values it is judged by. All ranks hold the same values, so all decide the
// same; plain numbers, so that it is a part of checkpoints and snapshots.
#pragma once

#include <cstdint>

#include "lockstep/v1/optimizer.pb.h"

namespace lockstep {

// The best value so far and how many epochs it has not been beaten.
struct MonitorState {
  // 1 once there is a best one.
  double known = 0;
  double best = 0;
  double waited = 0;
};

// Takes an epoch's value. True where it is better than the best by more than min_delta; a NaN never is.
bool Observe(double value, bool higher_is_better, double min_delta, MonitorState& state);

struct PlateauState {
  MonitorState monitor;
  // Epochs that do not count any more.
  double cooldown = 0;
  // How often the rate was reduced.
  double reductions = 0;
};

// Takes an epoch's value. As Keras's ReduceLROnPlateau, but that every epoch of a cooldown does not count
// (PyTorch's rule; Keras counts the last one).
void ObservePlateau(const lockstep::v1::ReduceOnPlateauSchedule& spec, double value, bool higher_is_better,
                    PlateauState& state);

}  // namespace lockstep
