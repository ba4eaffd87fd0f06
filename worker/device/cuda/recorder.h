// SPDX-License-Identifier: Apache-2.0
// Recorded steps as CUDA graphs: of one step, and of several in a row for fewer launches.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/step_recorder.h"

namespace lockstep::cuda {

class Recorder final : public StepRecorder {
 public:
  // The context outlives it.
  explicit Recorder(Context* context) : context_(*context) {}
  ~Recorder() override;
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  absl::Status Record(RecordedStep step) override;
  bool ready() const override;
  void Forget() override;
  void GatherSamples(const SampleTable& table, int64_t first, Tensor inputs, Tensor targets) override;
  void Decide(Tensor sums, Tensor extra, Tensor flag, Tensor gradient) override;
  int64_t max_steps() const override { return max_steps_; }
  int64_t max_kept() const override { return max_kept_; }
  absl::Status Start(int64_t first, int64_t count) override;
  absl::StatusOr<bool> Reached() override;
  absl::StatusOr<int64_t> Finish(std::span<double> results) override;
  std::span<const std::byte> kept(int64_t i) const override {
    return {host_kept_ + static_cast<size_t>(i) * step_.kept.bytes(), step_.kept.bytes()};
  }

 private:
  // Memory for runs of step_; a no-op where it is there.
  absl::Status TakeMemory();
  void FreeMemory();
  absl::Status Capture(int64_t steps, cudaGraphExec_t& graph);
  absl::Status status() const;
  // Calls of ApplyUpdate in step_.update.
  int64_t CountUpdates();
  // Puts the arguments of a step's updates into their row.
  bool Collect(int64_t row, int64_t step);
  // Steps from `step` on until something is to be kept, or `count`.
  int64_t UntilKept(int64_t step, int64_t count) const;
  bool Keep(int64_t place);
  // Launches the graph of `steps` steps, the first of which is step `first + at` in row `at`.
  bool Launch(cudaGraphExec_t graph, int64_t steps, int64_t first, int64_t at);

  Context& context_;
  RecordedStep step_;
  // Of each step.
  int64_t updates_per_step_ = 0;
  int64_t max_steps_ = 1;
  int64_t max_kept_ = 0;
  cudaGraphExec_t one_ = nullptr;
  // Null: as one_.
  cudaGraphExec_t many_ = nullptr;
  int64_t steps_of_many_ = 1;
  // The newest run is over.
  cudaEvent_t over_ = nullptr;
  // Its steps.
  int64_t count_ = 0;
  // Workspace::growths() at the time.
  int growths_ = 0;
  // The cursor, then results; on the GPU, and where the host reads and writes them.
  std::byte* progress_ = nullptr;
  std::byte* host_progress_ = nullptr;
  UpdateArgs* updates_ = nullptr;
  UpdateArgs* host_updates_ = nullptr;
  // [max_kept_, step_.kept.bytes()].
  std::byte* host_kept_ = nullptr;
  // What the memory was taken for.
  size_t memory_kept_ = 0;
  int64_t memory_results_ = -1;
  int64_t memory_updates_ = -1;
};

}  // namespace lockstep::cuda
