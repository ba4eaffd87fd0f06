// SPDX-License-Identifier: Apache-2.0
// UpdateFormula: what one kind of optimizer is. It names the state it keeps for each weight, and prepares
// the scalars of the passes that make an update; all that optimizers share (decay, clips, averages) is
// done around it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lockstep/v1/optimizer.pb.h"
#include "worker/device/update.h"

namespace lockstep {

struct UpdatePass {
  UpdateRule rule = UpdateRule::kSgd;
  UpdateArgs args;
  // Each tensor by itself, with the sums of squares of its weights and of what is in the gradient's place.
  bool norms = false;
};

struct StateName {
  const char* name = "";
  // What every element starts as.
  double start = 0;
};

class UpdateFormula {
 public:
  virtual ~UpdateFormula() = default;
  // The spec's, or its default.
  virtual double learning_rate() const = 0;
  // Where the spec does not say.
  virtual double default_weight_decay() const { return 0; }
  // True: weight_decay is a part of the direction; else the weights decay before the update.
  virtual bool decays_inside() const { return false; }
  virtual std::vector<StateName> state() const = 0;
  // The passes of update `t` (from 1), valid until the next call. Allocates nothing.
  virtual std::span<const UpdatePass> Prepare(double learning_rate, int64_t t) = 0;
};

#define LOCKSTEP_OPTIMIZER(kind, Name) \
  std::unique_ptr<UpdateFormula> Make##Name(const lockstep::v1::Name##Optimizer& spec);
#include "worker/optim/registry.def"
#undef LOCKSTEP_OPTIMIZER

}  // namespace lockstep
