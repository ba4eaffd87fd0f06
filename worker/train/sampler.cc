// SPDX-License-Identifier: Apache-2.0
#include "worker/train/sampler.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/status_macros.h"

namespace lockstep {

namespace {

// The same tensor with another length of its first axis.
Tensor FirstRows(Tensor t, int64_t rows) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  std::ranges::copy(t.shape.dims(), dims.begin());
  dims[0] = rows;
  return t.Reshaped(Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(t.shape.rank()))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Device* device, const DataTable& table, const Shape& sample,
                                                         int64_t max_rows) {
  std::unique_ptr<Sampler> sampler(new Sampler);
  sampler->device_ = device;
  sampler->samples_ = table.samples;
  sampler->gather_ = {.scale = table.scale, .offset = table.offset};
  sampler->labels_ = table.targets.type == DType::kI32;
  const auto allocate = [&](const Shape& shape, DType type) -> absl::StatusOr<Tensor> {
    Tensor t{nullptr, shape, type};
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device->Allocate(t.bytes()));
    t.data = buffer->data();
    sampler->buffers_.push_back(std::move(buffer));
    return t;
  };
  const auto place = [&](Tensor host) -> absl::StatusOr<Tensor> {
    if (device->host_accessible()) return host;
    LOCKSTEP_ASSIGN_OR_RETURN(Tensor t, allocate(host.shape, host.type));
    device->CopyFromHost(t.data, host.data, host.bytes());
    return t;
  };
  LOCKSTEP_ASSIGN_OR_RETURN(sampler->features_, place(table.features));
  LOCKSTEP_ASSIGN_OR_RETURN(sampler->targets_, place(table.targets));
  std::vector<int64_t> dims{max_rows};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  LOCKSTEP_ASSIGN_OR_RETURN(sampler->inputs_, allocate(Shape(dims), DType::kF32));
  dims.assign(table.targets.shape.dims().begin(), table.targets.shape.dims().end());
  dims[0] = max_rows;
  LOCKSTEP_ASSIGN_OR_RETURN(sampler->batch_targets_, allocate(Shape(dims), table.targets.type));
  LOCKSTEP_ASSIGN_OR_RETURN(sampler->indices_, allocate(Shape{max_rows}, DType::kI64));
  sampler->host_indices_.resize(static_cast<size_t>(max_rows));
  return sampler;
}

Batch Sampler::Shuffled(const Permutation& order, int64_t first, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) host_indices_[i] = static_cast<int64_t>(order(first + i));
  return Gather(rows);
}

Batch Sampler::InOrder(int64_t first, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) host_indices_[i] = first + i;
  return Gather(rows);
}

Batch Sampler::Gather(int64_t rows) {
  Batch batch{FirstRows(inputs_, rows), FirstRows(batch_targets_, rows), rows};
  if (rows == 0) return batch;
  const Tensor indices = FirstRows(indices_, rows);
  device_->CopyFromHost(indices.data, host_indices_.data(), indices.bytes());
  const int64_t width = inputs_.elements() / inputs_.shape[0];
  device_->GatherRows(features_, indices, gather_, batch.inputs.Reshaped(Shape{rows, width}));
  if (labels_) {
    device_->GatherLabels(targets_, indices, batch.targets);
  } else {
    device_->GatherRows(targets_, indices, GatherArgs{}, batch.targets);
  }
  return batch;
}

}  // namespace lockstep
