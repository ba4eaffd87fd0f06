// SPDX-License-Identifier: Apache-2.0
// Weights to start from: which tensor of a file is which parameter of a model.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/formats/safetensors.h"
#include "common/model/model_plan.h"

namespace lockstep {

// Where a parameter starts.
struct WeightMatch {
  // Into the file's tensors.
  size_t tensor = 0;
  std::string parameter;
  Shape shape;
  // The file has it as [out, in].
  bool transposed = false;
};

// Finds a tensor for each parameter, but for those of excluded layers. Every tensor that is missing, that
// belongs to no parameter, or that has another shape or type of number is added to `violations`; `file` is
// its name in messages. `tensors` need no bytes.
std::vector<WeightMatch> MatchWeights(const lockstep::v1::InitialWeights& spec, const ModelPlan& plan,
                                      const std::vector<TensorRead>& tensors, const std::string& file,
                                      Violations& violations);

// At submit: reads the header of the file alone.
void CheckInitialWeights(const lockstep::v1::ModelSpec& spec, const ModelPlan& plan,
                         const std::vector<std::string>& data_roots, Violations& violations);

struct InitialTensor {
  std::string parameter;
  // In the parameter's own layout.
  std::vector<float> values;
};

// At the start of training: the tensors of all parameters that do not keep their initialiser's. None where the
// model starts from nothing. INVALID_ARGUMENT where they do not fit, DATA_LOSS where the file is damaged.
absl::StatusOr<std::vector<InitialTensor>> ReadInitialWeights(const lockstep::v1::ModelSpec& spec,
                                                              const ModelPlan& plan,
                                                              const std::vector<std::string>& data_roots);

// As float; INVALID_ARGUMENT for a type that is not read (F32, F64, F16, BF16 are).
absl::StatusOr<std::vector<float>> ToFloats(const TensorRead& tensor);

}  // namespace lockstep
