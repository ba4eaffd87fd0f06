// SPDX-License-Identifier: Apache-2.0
// A trained model as an ONNX file: one graph from [N, sample...] to [N, output...] in float32, with what the
// layers do outside of training (no dropout, moving statistics). Format: github.com/onnx/onnx, docs/IR.md.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"

namespace lockstep {

// The version of ONNX's operators that is written.
inline constexpr int64_t kOnnxOpset = 17;

struct OnnxOptions {
  // Stored in the file; no process, place or time should be among it.
  std::map<std::string, std::string> metadata;
  // For people.
  std::string description;
};

// The numbers of a parameter: float32, little-endian, as many as its shape has. They stay the caller's.
using WeightsOf = std::function<absl::StatusOr<std::span<const std::byte>>(const ParameterPlan&)>;

// The file's bytes: the same ones for the same model. The plan was made without violations.
// INVALID_ARGUMENT where the model is larger than such a file can be (2 GiB); the errors of `weights`.
absl::StatusOr<std::string> ExportOnnx(const ModelPlan& plan, const WeightsOf& weights, const OnnxOptions& options);

}  // namespace lockstep
