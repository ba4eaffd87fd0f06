// SPDX-License-Identifier: Apache-2.0
// How a layer's describe adds its parameters.
#pragma once

#include <string>

#include "common/model/model_plan.h"

namespace lockstep {

// The job file's side of one parameter.
struct ParameterFields {
  // Of the layer's kind, for messages: "model.layers[2].conv2d".
  std::string field;
  // Null: `otherwise`.
  const lockstep::v1::InitializerSpec* initializer = nullptr;
  lockstep::v1::InitializerSpec otherwise;
  // Null: none.
  const lockstep::v1::RegularizerSpec* regularizer = nullptr;
};

lockstep::v1::InitializerSpec GlorotUniform();
lockstep::v1::InitializerSpec Ones();

// Adds `parameter` to the plan and what is wrong with its fields to the violations: those are called
// <field>.<name>_initializer and <field>.<name>_regularizer.
void AddParameter(LayerPlan& plan, ParameterPlan parameter, const ParameterFields& fields, Violations& violations);

// A "bias" of `width`, zeros where the initialiser has no kind.
void AddBias(LayerPlan& plan, int64_t width, const std::string& field, const lockstep::v1::InitializerSpec& initializer,
             const lockstep::v1::RegularizerSpec& regularizer, Violations& violations);

}  // namespace lockstep
