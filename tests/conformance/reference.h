// SPDX-License-Identifier: Apache-2.0
// What every kind of layer computes, written out once more from model.proto alone: plain loops in double
// precision. Derivatives come from the tape, so that no formula of a gradient is repeated here.
#pragma once

#include <cstdint>
#include <vector>

#include "common/model/model_plan.h"
#include "tests/conformance/tape.h"

namespace lockstep::conformance {

using Vars = std::vector<Var>;

// One call of a layer: what StepContext holds, for all samples that are in it.
struct ReferenceCall {
  int64_t rows = 0;
  bool training = false;
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_row = 0;
  int layer_index = 0;
};

// [rows, output...]. One of `parameters` for each of the plan's, one of `x` for each input.
Vars ReferenceLayer(const LayerPlan& plan, const ReferenceCall& call, const std::vector<Vars>& parameters,
                    const std::vector<Vars>& x);

// The whole graph; parameters in the plan's order, layer after layer.
Vars ReferenceModel(const ModelPlan& plan, ReferenceCall call, const std::vector<Vars>& parameters,
                    const Vars& samples);

}  // namespace lockstep::conformance
