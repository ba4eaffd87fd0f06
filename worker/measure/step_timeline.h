// SPDX-License-Identifier: Apache-2.0
// Cuts steps into parts by marks in the device's stream: what has passed since the mark before goes to the part whose
// end is marked, so that the parts of a step cover it without a gap.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "worker/device/device_timer.h"
#include "worker/nn/node_observer.h"

namespace lockstep {

enum class StepPart : uint8_t { kData, kForward, kLoss, kBackward, kGradientSum, kUpdate };

// Times in seconds, by the device's timer.
struct PartTime {
  StepPart part = StepPart::kData;
  // Of kForward and kBackward; else -1.
  int layer = -1;
  int shard = 0;
  // Samples of the shard; of kUpdate, of the step.
  int64_t rows = 0;
  double begin = 0;
  double end = 0;

  double seconds() const { return end - begin; }
};

struct StepTimes {
  int64_t step = 0;
  double begin = 0;
  double end = 0;
  // In order; the first begins and the last ends with the step, and each begins where the one before it ends.
  std::vector<PartTime> parts;

  double seconds() const { return end - begin; }
};

// Of the device's thread. Allocates nothing between two calls of Read.
class StepTimeline final : public NodeObserver {
 public:
  // How many marks a step of this model has at most.
  static int MarksOfStep(const ModelPlan& plan, int shards);

  // The timer outlives the timeline, and is read by it alone.
  explicit StepTimeline(DeviceTimer* timer);

  // As many steps as the timer has room for, each: BeginStep; for each shard BeginShard and what was done; the update.
  void BeginStep(int64_t step, int64_t rows);
  void BeginShard(int shard, int64_t rows);
  // All of this part has just been enqueued.
  void Done(StepPart part) { Mark({.part = part, .shard = shard_, .rows = rows_}); }
  // Behind the shards.
  void DoneUpdate() { Mark({.part = StepPart::kUpdate, .rows = step_rows_}); }
  // For Model::set_observer. `layer`: as there.
  void Done(Pass pass, int layer) override;

  // Waits for the steps since the last call, and gives them. INTERNAL where the timer does.
  absl::StatusOr<std::vector<StepTimes>> Read();

 private:
  struct Label {
    StepPart part = StepPart::kData;
    int layer = -1;
    int shard = 0;
    int64_t rows = 0;
    // Not -1: a step begins here.
    int64_t step = -1;
  };
  void Mark(const Label& label);

  DeviceTimer* timer_;
  int shard_ = 0;
  int64_t rows_ = 0;
  int64_t step_rows_ = 0;
  // One for each mark.
  std::vector<Label> labels_;
};

}  // namespace lockstep
