// SPDX-License-Identifier: Apache-2.0
// Model: layers over flat arrays. All memory is taken in Create; a step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "worker/device/device.h"
#include "worker/nn/layer.h"
#include "worker/nn/objective.h"

namespace lockstep {

// A parameter's place in the flat array.
struct ParameterView {
  std::string name;
  Shape shape;
  // In elements, a multiple of 16, so that each tensor starts on a 64-byte line.
  int64_t offset = 0;
};

// One micro-batch on the device. inputs: [rows, sample...]; targets: kI32 [rows] or [rows, n].
struct Batch {
  Tensor inputs;
  Tensor targets;
  int64_t rows = 0;
};

class Model {
 public:
  // `type` is kF32, or kF64 for checks. `max_rows`: the largest micro-batch. The device outlives the
  // model. RESOURCE_EXHAUSTED where memory is short. Without metrics there is the loss alone.
  static absl::StatusOr<std::unique_ptr<Model>> Create(Device* device, const ModelPlan& plan,
                                                       const lockstep::v1::LossSpec& loss, DType type, int64_t max_rows,
                                                       const MetricsPlan& metrics = {});
  virtual ~Model() = default;

  virtual const std::vector<ParameterView>& parameter_views() const = 0;
  // The flat parameters; the padding between tensors is zero and stays zero.
  virtual Tensor parameters() = 0;
  virtual const Objective& objective() const = 0;
  const Loss& loss() const { return objective().loss(); }
  // How many sums a batch is added to.
  int stats_width() const { return objective().width(); }

  // Initial weights: a function of the seed and each parameter's place in the model.
  virtual void Initialize(uint64_t seed) = 0;

  // Forward and backward of one micro-batch. Overwrites `gradient` (flat, like parameters()) with the
  // gradient of scale * (sum of the samples' losses), and adds the batch's sums to `stats`
  // (kF64 [stats_width()]). Rows 0: gradient is zero. `forward_seconds`, where not null, gets
  // the seconds of the forward part added.
  virtual void ForwardBackward(const StepContext& context, const Batch& batch, double scale, Tensor gradient,
                               Tensor stats, double* forward_seconds) = 0;
  // Forward only, with dropout off; adds to `stats`.
  virtual void Evaluate(const Batch& batch, Tensor stats) = 0;
};

}  // namespace lockstep
