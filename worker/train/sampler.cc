// SPDX-License-Identifier: Apache-2.0
#include "worker/train/sampler.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/model/input_plan.h"
#include "common/status_macros.h"
#include "worker/train/failure.h"

namespace lockstep {

namespace {

constexpr size_t kCacheLine = 64;
// Of __builtin_prefetch: the first level is for what is worked on now.
constexpr int kIntoSecondLevel = 2;

// The same tensor with another length of its first axis.
Tensor FirstRows(Tensor t, int64_t rows) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  std::ranges::copy(t.shape.dims(), dims.begin());
  dims[0] = rows;
  return t.Reshaped(Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(t.shape.rank()))));
}

// Their way into the cache begins.
void FetchRows(const Tensor& table, std::span<const int64_t> rows) {
  if (rows.empty()) return;
  const size_t bytes = table.bytes() / static_cast<size_t>(table.shape[0]);
  for (const int64_t index : rows) {
    const std::byte* row = table.as<std::byte>() + static_cast<size_t>(index) * bytes;
    for (size_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(row + at, 0, kIntoSecondLevel);
  }
}

bool NeedsMaking(const DataTable& table, const v1::DatasetSpec& spec, bool training) {
  return table.source != nullptr || spec.has_normalize() || (training && !spec.augmentation().empty());
}

}  // namespace

Sampler::Sampler(Device* device, const DataTable& table, const v1::JobSpec& spec)
    : device_(device),
      samples_(table.samples),
      order_(table, spec.seed()),
      gather_{.scale = table.scale, .offset = table.offset} {}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Device* device, const DataTable& table,
                                                         const v1::JobSpec& spec, const SamplerOptions& options) {
  std::unique_ptr<Sampler> sampler(new Sampler(device, table, spec));
  // The batch.
  std::vector<int64_t> dims{options.max_rows};
  dims.insert(dims.end(), options.sample.dims().begin(), options.sample.dims().end());
  sampler->inputs_ = {nullptr, Shape(dims), DType::kF32};
  dims.assign(table.targets.shape.dims().begin(), table.targets.shape.dims().end());
  if (dims.empty()) dims.resize(1);
  dims[0] = options.max_rows;
  sampler->batch_targets_ = {nullptr, Shape(dims), table.targets.type};
  if (NeedsMaking(table, spec.dataset(), options.training)) {
    LOCKSTEP_RETURN_IF_ERROR(sampler->PrepareFeed(table, spec, options));
  } else {
    LOCKSTEP_RETURN_IF_ERROR(sampler->PrepareGather(table, options));
  }
  return sampler;
}

absl::StatusOr<Tensor> Sampler::Allocate(const Shape& shape, DType type) {
  Tensor t{nullptr, shape, type};
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_->Allocate(t.bytes()));
  t.data = buffer->data();
  buffers_.push_back(std::move(buffer));
  return t;
}

absl::Status Sampler::PrepareGather(const DataTable& table, const SamplerOptions& options) {
  const auto place = [&](Tensor host) -> absl::StatusOr<Tensor> {
    // A part that there is none of has no memory, and a shape of one element.
    if (device_->host_accessible() || host.data == nullptr) return host;
    LOCKSTEP_ASSIGN_OR_RETURN(Tensor t, Allocate(host.shape, host.type));
    device_->CopyFromHost(t.data, host.data, host.bytes());
    return t;
  };
  LOCKSTEP_ASSIGN_OR_RETURN(features_, place(table.features));
  LOCKSTEP_ASSIGN_OR_RETURN(targets_, place(table.targets));
  LOCKSTEP_ASSIGN_OR_RETURN(inputs_, Allocate(inputs_.shape, inputs_.type));
  LOCKSTEP_ASSIGN_OR_RETURN(batch_targets_, Allocate(batch_targets_.shape, batch_targets_.type));
  LOCKSTEP_ASSIGN_OR_RETURN(indices_, Allocate(Shape{options.max_rows}, DType::kI64));
  host_indices_.resize(static_cast<size_t>(options.max_rows));
  next_indices_.resize(host_indices_.size());
  return absl::OkStatus();
}

absl::Status Sampler::PrepareFeed(const DataTable& table, const v1::JobSpec& spec, const SamplerOptions& options) {
  const int64_t target_width = batch_targets_.elements() / options.max_rows;
  const SlotBytes slot = BytesOfSlot(options.max_rows, options.sample.elements(), target_width);
  const int64_t slot_floats = slot.all / static_cast<int64_t>(sizeof(float));
  const Shape ring{options.slots * slot_floats};
  float* memory = nullptr;
  if (device_->host_accessible()) {
    // The batches are where they are made.
    LOCKSTEP_ASSIGN_OR_RETURN(const Tensor slots, Allocate(ring, DType::kF32));
    memory = slots.as<float>();
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(inputs_, Allocate(inputs_.shape, inputs_.type));
    LOCKSTEP_ASSIGN_OR_RETURN(batch_targets_, Allocate(batch_targets_.shape, batch_targets_.type));
    host_slots_.resize(static_cast<size_t>(ring.elements()));
    memory = host_slots_.data();
  }
  for (int64_t i = 0; i < options.slots; ++i) {
    float* features = memory + i * slot_floats;
    slots_.push_back({features, features + slot.targets_at / static_cast<int64_t>(sizeof(float))});
  }
  feed_ =
      std::make_unique<Feed>(table, spec.dataset(), options.sample, spec.seed(), options.training, options.max_rows);
  return absl::OkStatus();
}

void Sampler::Follow(PieceOrder order) {
  if (feed_ != nullptr) {
    prefetcher_ = std::make_unique<Prefetcher>(feed_.get(), slots_, std::move(order));
  } else {
    pieces_ = std::move(order);
  }
}

absl::StatusOr<Batch> Sampler::Take(const Piece& piece) {
  if (feed_ == nullptr) return Gather(piece);
  absl::StatusOr<Prefetcher::Slot> made = Made(piece);
  if (!made.ok()) {
    // A disk may come back; a file that was cut short stays so.
    return absl::IsUnavailable(made.status()) ? made.status() : Permanent(made.status());
  }
  Batch batch{FirstRows(inputs_, piece.rows), FirstRows(batch_targets_, piece.rows), piece.rows};
  if (inputs_.data == nullptr) {
    batch.inputs.data = made->features;
    batch.targets.data = made->targets;
  } else {
    device_->CopyFromHost(batch.inputs.data, made->features, batch.inputs.bytes());
    device_->CopyFromHost(batch.targets.data, made->targets, batch.targets.bytes());
  }
  return batch;
}

absl::StatusOr<Batch> Sampler::TakeAgain(const Piece& piece) {
  // Its thread is the feed's only user.
  prefetcher_.reset();
  return Take(piece);
}

absl::StatusOr<Prefetcher::Slot> Sampler::Made(const Piece& piece) {
  if (prefetcher_ != nullptr) return prefetcher_->Next(piece);
  LOCKSTEP_RETURN_IF_ERROR(feed_->Make(piece, slots_[0].features, slots_[0].targets));
  return slots_[0];
}

Batch Sampler::Gather(const Piece& piece) {
  Batch batch{FirstRows(inputs_, piece.rows), FirstRows(batch_targets_, piece.rows), piece.rows};
  if (next_piece_ == piece) {
    host_indices_.swap(next_indices_);
  } else {
    order_.Fill(piece, host_indices_.data());
  }
  if (pieces_) LookAhead();
  if (piece.rows == 0) return batch;
  const Tensor indices = FirstRows(indices_, piece.rows);
  device_->CopyFromHost(indices.data, host_indices_.data(), indices.bytes());
  const int64_t width = inputs_.elements() / inputs_.shape[0];
  device_->GatherRows(features_, indices, gather_, batch.inputs.Reshaped(Shape{piece.rows, width}));
  if (batch_targets_.type == DType::kI32) {
    device_->GatherLabels(targets_, indices, batch.targets);
  } else {
    device_->GatherRows(targets_, indices, GatherArgs{}, batch.targets);
  }
  return batch;
}

// The rows lie anywhere in the table, and a batch is made of them sooner than they come out of memory.
void Sampler::LookAhead() {
  next_piece_ = pieces_(++taken_);
  if (!next_piece_.has_value()) return;
  order_.Fill(*next_piece_, next_indices_.data());
  if (!device_->host_accessible()) return;
  const std::span<const int64_t> rows(next_indices_.data(), static_cast<size_t>(next_piece_->rows));
  FetchRows(features_, rows);
  FetchRows(targets_, rows);
}

}  // namespace lockstep
