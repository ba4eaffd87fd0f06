// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/step_timeline.h"

#include "common/status_macros.h"

namespace lockstep {

namespace {

bool Same(const PartTime& a, const PartTime& b) { return a.part == b.part && a.layer == b.layer && a.shard == b.shard; }

}  // namespace

int StepTimeline::MarksOfStep(const ModelPlan& plan, int shards) {
  // A layer, and a copy into another layout of each of its inputs.
  size_t nodes = plan.layers.size();
  for (const LayerPlan& layer : plan.layers) nodes += layer.sources.size();
  // Each node forward and backward; data, loss and sum; the step's begin and its update.
  return shards * static_cast<int>(2 * nodes + 3) + 2;
}

StepTimeline::StepTimeline(DeviceTimer* timer) : timer_(timer) {
  labels_.reserve(static_cast<size_t>(timer->capacity()));
}

void StepTimeline::BeginStep(int64_t step, int64_t rows) {
  step_rows_ = rows;
  Mark({.step = step});
}

void StepTimeline::BeginShard(int shard, int64_t rows) {
  shard_ = shard;
  rows_ = rows;
}

void StepTimeline::Done(Pass pass, int layer) {
  if (pass == Pass::kLoss) return Done(StepPart::kLoss);
  Mark({.part = pass == Pass::kForward ? StepPart::kForward : StepPart::kBackward,
        .layer = layer,
        .shard = shard_,
        .rows = rows_});
}

void StepTimeline::Mark(const Label& label) {
  timer_->Mark();
  labels_.push_back(label);
}

absl::StatusOr<std::vector<StepTimes>> StepTimeline::Read() {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::span<const double> times, timer_->Read());
  std::vector<StepTimes> steps;
  for (size_t i = 0; i < labels_.size(); ++i) {
    const Label& label = labels_[i];
    if (label.step >= 0) {
      steps.push_back({.step = label.step, .begin = times[i], .end = times[i], .parts = {}});
      continue;
    }
    StepTimes& step = steps.back();
    const PartTime part{label.part, label.layer, label.shard, label.rows, step.end, times[i]};
    step.end = times[i];
    // A copy into another layout belongs to the layer that it is made for.
    if (!step.parts.empty() && Same(step.parts.back(), part)) {
      step.parts.back().end = part.end;
    } else {
      step.parts.push_back(part);
    }
  }
  labels_.clear();
  return steps;
}

}  // namespace lockstep
