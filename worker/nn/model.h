// SPDX-License-Identifier: Apache-2.0
// Model: layers over flat arrays. All memory is taken in Create; a step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "worker/device/device.h"
#include "worker/nn/layer.h"
#include "worker/nn/node_observer.h"
#include "worker/nn/objective.h"

namespace lockstep {

// A parameter's place in the flat array. Moving statistics lie behind all others.
struct ParameterView {
  std::string name;
  Shape shape;
  // In elements, a multiple of 16, so that each tensor starts on a 64-byte line.
  int64_t offset = 0;
  // False: no optimizer changes it; see ParameterPlan, also for the rest.
  bool trainable = true;
  std::optional<double> moving_momentum = {};
  double l1 = 0;
  double l2 = 0;
  // Whose it is: the layer's index in the plan.
  int layer = 0;
};

// One micro-batch on the device. inputs: [rows, sample...]; targets: kI32 [rows] or [rows, n].
struct Batch {
  Tensor inputs;
  Tensor targets;
  int64_t rows = 0;
};

// One logical shard of a step.
struct ShardTask {
  Batch batch;
  // Its first row's place in the global batch.
  int64_t first_row = 0;
  // See Model::ForwardBackward.
  Tensor gradient;
  Tensor stats;
};

// Adds numbers over all shards of a step, on all ranks, in the canonical order.
class ShardSum {
 public:
  virtual ~ShardSum() = default;
  // `shards`: [this rank's shards, width], in order; `total`: [width]. A collective: every rank calls it
  // as often and with the same widths.
  virtual absl::Status Sum(std::span<const double> shards, std::span<double> total) = 0;
};

class Model {
 public:
  // `type` is kF32, or kF64 for checks. `max_rows`: the largest micro-batch. `shards`: those of this
  // rank, which matter only where needs_whole_batch. The device outlives the model. RESOURCE_EXHAUSTED
  // where memory is short. Without metrics there is the loss alone. `precision`: of training's products.
  static absl::StatusOr<std::unique_ptr<Model>> Create(Device* device, const ModelPlan& plan,
                                                       const lockstep::v1::LossSpec& loss, DType type, int64_t max_rows,
                                                       const MetricsPlan& metrics = {}, int shards = 1,
                                                       ProductPrecision precision = ProductPrecision::kFloat);
  virtual ~Model() = default;

  virtual const std::vector<ParameterView>& parameter_views() const = 0;
  // The flat parameters; the padding between tensors is zero and stays zero.
  virtual Tensor parameters() = 0;
  virtual const Objective& objective() const = 0;
  const Loss& loss() const { return objective().loss(); }
  // How many sums a batch is added to.
  int stats_width() const { return objective().width(); }
  // True: a layer normalises over the whole batch, so a step's shards go through the model together.
  virtual bool needs_whole_batch() const = 0;

  // The form in which a batch's inputs may be in ForwardBackward and Evaluate, besides kAll, and are best where `rows`
  // of them are mostly zero. Any number of rows may then come in this form.
  virtual SampleForm FormOfSamples(int64_t rows) const = 0;

  // Initial weights: a function of the seed and each parameter's place in the model.
  virtual void Initialize(uint64_t seed) = 0;

  // Forward and backward of one micro-batch. Overwrites `gradient` (flat, like parameters()) with the
  // gradient of scale * (sum of the samples' losses), and adds the batch's sums to `stats`
  // (kF64 [stats_width()]). Rows 0: gradient is zero. `forward_seconds`, where not null, gets
  // the seconds of the forward part added, none where the device does all at once. Not where needs_whole_batch.
  virtual void ForwardBackward(const StepContext& context, const Batch& batch, double scale, Tensor gradient,
                               Tensor stats, double* forward_seconds) = 0;
  // The same for all of this rank's shards at once, as many as given to Create. The error is `sum`'s.
  virtual absl::Status ForwardBackwardTogether(const StepContext& context, std::span<const ShardTask> shards,
                                               double scale, ShardSum& sum) = 0;
  // After the step's gradients are summed: brings the moving statistics up to date from their places in
  // the sum, and sets those to zero, since no optimizer and no norm may take them for a gradient.
  void UpdateMoving(Tensor gradient) { UpdateMovingIn(gradient, 0, gradient.elements()); }
  // Of what lies in [first, first + count) of the flat arrays.
  virtual void UpdateMovingIn(Tensor gradient, int64_t first, int64_t count) = 0;

  // Where the newest pass of `batch` (in ForwardBackwardTogether: shard `lane`) first met a number that is not finite,
  // in the order of the arithmetic: samples, targets, each layer's output, the loss, and each parameter's gradient from
  // the last layer to the first. -1: nowhere. `flag`: kF64 [1] scratch on the device.
  virtual int64_t FirstNonFinite(size_t lane, const Batch& batch, bool loss_is_finite, Tensor gradient,
                                 Tensor flag) = 0;
  // The same in `gradient` alone.
  virtual int64_t FirstNonFiniteGradient(Tensor gradient, Tensor flag) = 0;
  // "the output of dense_1", "the gradient of dense_1/kernel".
  virtual std::string PlaceName(int64_t place) const = 0;

  // Forward only, with dropout off and moving statistics; adds to `stats`.
  virtual void Evaluate(const Batch& batch, Tensor stats) = 0;
  // Forward only: what the model's last layer puts out, [rows, output...], on the device. It is
  // overwritten by the next call. batch.targets is not used.
  virtual Tensor Predict(const Batch& batch) = 0;

  // From now on told of each layer's part of a pass; null: nobody is. It outlives the model.
  virtual void set_observer(NodeObserver* observer) = 0;
};

}  // namespace lockstep
