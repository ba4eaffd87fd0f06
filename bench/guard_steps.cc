// SPDX-License-Identifier: Apache-2.0
// lockstep-bench-steps JOB DATA_ROOT STEPS: does so many steps of a job and nothing else. It looks at no clock, so the
// instructions that it takes are the same each time; scripts/bench-guard counts them.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "common/model/input_plan.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "worker/data/dataset.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/sampler.h"
#include "worker/train/step_plan.h"

namespace lockstep {
namespace {

absl::Status RunSteps(const v1::JobSpec& spec, const std::string& data_root, int64_t steps) {
  Violations violations;
  const DatasetInfo info = ProbeDataset(spec.dataset(), {data_root}, spec.seed(), violations);
  const JobPlan plan = violations.empty() ? PlanJob(spec, &info, violations) : JobPlan{};
  if (!violations.empty()) return absl::InvalidArgumentError(violations.list().front().description);
  LOCKSTEP_ASSIGN_OR_RETURN(const auto dataset,
                            OpenDataset(spec.dataset(), {data_root}, spec.seed(), plan.model.output.elements()));
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const StepPlan step_plan(info.train_samples, spec.training().batch_size(), 1);
  LOCKSTEP_ASSIGN_OR_RETURN(
      const auto model, Model::Create(device.get(), plan.model, spec.loss(), DType::kF32, step_plan.max_shard_rows()));
  model->Initialize(spec.seed());
  const Shape flat = model->parameters().shape;
  LOCKSTEP_ASSIGN_OR_RETURN(const auto optimizer,
                            MakeOptimizer(spec.optimizer(), *device, flat.elements(), DType::kF32));
  optimizer->Begin(*device, model->parameters());
  LOCKSTEP_ASSIGN_OR_RETURN(const auto gradient_buffer,
                            device->Allocate(static_cast<size_t>(flat.elements()) * sizeof(float)));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto stats_buffer,
                            device->Allocate(static_cast<size_t>(model->stats_width()) * sizeof(double)));
  const Tensor gradient{gradient_buffer->data(), flat, DType::kF32};
  const Tensor stats{stats_buffer->data(), Shape{model->stats_width()}, DType::kF64};
  LOCKSTEP_ASSIGN_OR_RETURN(const auto sampler,
                            Sampler::Create(device.get(), dataset->train(), spec,
                                            {.sample = dataset->sample_shape(),
                                             .max_rows = step_plan.max_shard_rows(),
                                             .slots = FitInput(spec, info, 1, 1).train_slots,
                                             .form = model->FormOfSamples(step_plan.max_shard_rows())}));
  for (int64_t step = 0; step < steps; ++step) {
    const StepPlace place = step_plan.At(step);
    LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, sampler->Take({place.epoch, place.first_position, place.rows}));
    const StepContext context{.device = device.get(), .training = true, .seed = spec.seed(), .step = step};
    model->ForwardBackward(context, batch, 1.0 / static_cast<double>(place.rows), gradient, stats, nullptr);
    optimizer->Step(*device, model->parameters(), gradient, optimizer->base_learning_rate(), step);
  }
  double loss = 0;
  device->CopyToHost(&loss, stats.data, sizeof(loss));
  std::printf("%s: sum of the losses %.6g\n", device->Description().c_str(), loss);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  int64_t steps = 0;
  if (argc != 4 || !absl::SimpleAtoi(argv[3], &steps) || steps < 0) {
    std::fputs("usage: lockstep-bench-steps JOB DATA_ROOT STEPS, where JOB is the text of a job file\n", stderr);
    return 2;
  }
  Violations violations;
  const v1::JobSpec spec = ParseJobFile(argv[1], "JOB", violations);
  if (!violations.empty()) {
    std::fprintf(stderr, "lockstep-bench-steps: %s\n", violations.list().front().description.c_str());
    return 2;
  }
  const absl::Status status = RunSteps(spec, argv[2], steps);
  if (status.ok()) return 0;
  std::fprintf(stderr, "lockstep-bench-steps: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
