// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/runner.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/model/metrics_plan.h"
#include "common/status_macros.h"
#include "worker/comm/communicator.h"
#include "worker/train/evaluator.h"

namespace lockstep {

namespace {

void LoadWeights(const SafetensorsFile& file, Device& device, Model& model) {
  std::map<std::string, const TensorRead*> by_name;
  for (const TensorRead& tensor : file.tensors) by_name[tensor.name] = &tensor;
  // Each is there and of its shape: ReadTrainedModel saw to it.
  for (const ParameterView& view : model.parameter_views()) {
    const std::span<const std::byte> bytes = by_name.at(view.name)->bytes;
    device.CopyFromHost(model.parameters().as<float>() + view.offset, bytes.data(), bytes.size());
  }
}

}  // namespace

v1::DatasetSpec WithPreprocessing(v1::DatasetSpec dataset, const Preprocessing& preprocessing) {
  dataset.clear_augmentation();
  dataset.clear_normalize();
  if (!preprocessing.mean.empty()) {
    dataset.mutable_normalize()->mutable_mean()->Assign(preprocessing.mean.begin(), preprocessing.mean.end());
    dataset.mutable_normalize()->mutable_stddev()->Assign(preprocessing.stddev.begin(), preprocessing.stddev.end());
  }
  const auto scale = [&](auto* source) {
    source->set_scale(preprocessing.scale);
    source->set_offset(preprocessing.offset);
  };
  if (dataset.has_idx()) scale(dataset.mutable_idx());
  if (dataset.has_cifar()) scale(dataset.mutable_cifar());
  if (dataset.has_numpy()) scale(dataset.mutable_numpy());
  return dataset;
}

absl::StatusOr<std::unique_ptr<Runner>> Runner::Create(const TrainedModel& trained, const DataTable& table,
                                                       Device* device) {
  auto runner = std::make_unique<Runner>();
  runner->device_ = device;
  LOCKSTEP_ASSIGN_OR_RETURN(runner->model_,
                            Model::Create(device, trained.plan, trained.job.loss(), DType::kF32, kEvaluationRows,
                                          PlanMetrics(trained.job, trained.plan.output.elements())));
  LoadWeights(trained.weights, *device, *runner->model_);
  v1::JobSpec spec = trained.job;
  *spec.mutable_dataset() = WithPreprocessing({}, trained.preprocessing);
  LOCKSTEP_ASSIGN_OR_RETURN(
      runner->sampler_,
      Sampler::Create(device, table, spec,
                      {.sample = trained.plan.input, .max_rows = kEvaluationRows, .slots = 2, .training = false}));
  return runner;
}

absl::StatusOr<Scores> Runner::Evaluate() {
  if (samples() == 0) return absl::InvalidArgumentError("the data has no samples");
  const int width = model_->stats_width();
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer,
                            device_->Allocate(static_cast<size_t>(width) * sizeof(double)));
  const std::unique_ptr<Communicator> alone = MakeSingleCommunicator();
  Progress progress;
  Evaluator evaluator(device_, alone.get(), model_.get(), sampler_.get(), {buffer->data(), Shape{width}, DType::kF64},
                      &progress);
  LOCKSTEP_ASSIGN_OR_RETURN(const std::span<const double> sums, evaluator.Run());
  LOCKSTEP_RETURN_IF_ERROR(device_->status());
  return model_->objective().Score(sums, samples(), /*training=*/false);
}

absl::StatusOr<std::span<const float>> Runner::Predict(int64_t first, int64_t rows) {
  LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, sampler_->Take({Piece::kAsStored, first, rows}));
  const Tensor y = model_->Predict(batch);
  host_.resize(static_cast<size_t>(y.elements()));
  device_->CopyToHost(host_.data(), y.data, y.bytes());
  LOCKSTEP_RETURN_IF_ERROR(device_->status());
  return host_;
}

}  // namespace lockstep
