// SPDX-License-Identifier: Apache-2.0
// StepRecorder: what a device does in one step, recorded and done again for the steps that follow, without a call for
// each operation. What differs from step to step is worked out on the device, from a step number that lies there: which
// samples are gathered, and which random numbers are drawn. The bits are those of the recorded calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/device/device.h"

namespace lockstep {

// A table of samples in the device's memory, and the order in which steps take them (common/permutation.h).
struct SampleTable {
  // As for Device::GatherRows: [n, width].
  Tensor features;
  GatherArgs gather;
  // kI32 [n], or kF32 [n, target width].
  Tensor targets;
  // kI64 [samples]: sample i is row rows[i]; null data: row i.
  Tensor rows;
  int64_t samples = 0;
  uint64_t seed = 0;
  int64_t batch_size = 0;
  int64_t steps_per_epoch = 0;
};

struct RecordedStep {
  // The step that `body` calls the operations for.
  int64_t step = 0;
  // Numbers of Decide.
  int64_t results = 0;
  // All up to Decide, and what is the same in every step behind it.
  std::function<absl::Status()> body;
  // What comes behind it: calls of a step whose arguments depend on it, which only those of ApplyUpdate may do.
  std::function<void(int64_t step)> update;
  // A run brings this to the host as it is each time that a multiple of `keep_every` of all steps is done, but for the
  // run's last step. 0: nothing.
  Tensor kept;
  int64_t keep_every = 0;
};

// Of the device's thread. After an error of the device (Device::status) nothing of it may be used.
class StepRecorder {
 public:
  virtual ~StepRecorder() = default;

  // Records a step: calls `body` and `update` some times, whose operations are kept and not done. They must not wait
  // for the device, nor copy from or to the host; their shapes were computed before, so that all memory is there.
  // `update` is kept for Start. An earlier recording is gone. Errors: `body`'s; RESOURCE_EXHAUSTED; INTERNAL where the
  // device fails.
  virtual absl::Status Record(RecordedStep step) = 0;
  // False: nothing is recorded, or memory that it uses is elsewhere by now.
  virtual bool ready() const = 0;
  // Forgets the recording.
  virtual void Forget() = 0;
  // The most steps of one run; known once something was recorded.
  virtual int64_t max_steps() const = 0;
  // How many times a run may bring RecordedStep::kept; as max_steps.
  virtual int64_t max_kept() const = 0;

  // Inside `body`:
  //
  // Samples [first, first + rows) of the running step's batch, which is a whole one. inputs: [rows, width];
  // targets: [rows] or [rows, target width].
  virtual void GatherSamples(const SampleTable& table, int64_t first, Tensor inputs, Tensor targets) = 0;
  // Once, before anything that outlives the step is changed. All of sums (kF64) and then of extra (kF64, or null data)
  // is kept for the host, and sums is zero again. Where sums[0] is not finite, or flag (kF64 [1]) is not 0 (null data:
  // where an element of `gradient` is not finite), the run halts: from here on Add, Blend, Copy, Fill and ApplyUpdate
  // change nothing, in this step and the ones behind it.
  virtual void Decide(Tensor sums, Tensor extra, Tensor flag, Tensor gradient) = 0;

  // Begins a run of steps [first, first + count), 1 to max_steps of them, where ready, with at most max_kept places to
  // keep something. `update` is called for each, in
  // order, for the arguments of its updates. One run at a time.
  virtual absl::Status Start(int64_t first, int64_t count) = 0;
  // Whether the run is over; never waits.
  virtual absl::StatusOr<bool> Reached() = 0;
  // Waits for it. results: [count, RecordedStep::results]. Returns how many steps were done, fewer than `count` where
  // the run halted: the next one has changed nothing.
  virtual absl::StatusOr<int64_t> Finish(std::span<double> results) = 0;
  // Then: what was kept for the i-th time in this run, until the next one. Of steps that were not done it says nothing.
  virtual std::span<const std::byte> kept(int64_t i) const = 0;
};

}  // namespace lockstep
