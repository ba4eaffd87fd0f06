// SPDX-License-Identifier: Apache-2.0
// EpochScores: how well an epoch went. Every rank works out the same ones, bit for bit, so that all may
// decide by them.
#pragma once

#include <optional>
#include <string_view>

#include "lockstep/v1/events.pb.h"
#include "worker/nn/objective.h"

namespace lockstep {

struct EpochScores {
  // Over each sample when it was trained on.
  Scores train;
  // Nothing: there is no held-out data.
  std::optional<Scores> test;

  // By the name that MonitorSpec has for it: "train_loss", "test_accuracy". nullopt: there is no such
  // value.
  std::optional<double> Find(std::string_view name) const;
  // Fills in losses and metrics.
  void Report(lockstep::v1::EpochCompleted& epoch) const;
};

}  // namespace lockstep
