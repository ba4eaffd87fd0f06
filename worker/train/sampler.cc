// SPDX-License-Identifier: Apache-2.0
#include "worker/train/sampler.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "common/model/input_plan.h"
#include "common/status_macros.h"
#include "worker/train/failure.h"
#include "worker/train/first_rows.h"

namespace lockstep {

namespace {

constexpr size_t kCacheLine = 64;
// One is in use while another is made.
constexpr int64_t kFewestSlots = 2;
constexpr int64_t kSlotsOfTable = 4;
// What products and convolutions may want besides the samples.
constexpr size_t kScratchBytes = size_t{1} << 30;
// Of __builtin_prefetch: the first level is for what is worked on now.
constexpr int kIntoSecondLevel = 2;

// Their way into the cache begins.
void FetchRows(const Tensor& table, std::span<const int64_t> rows) {
  if (rows.empty()) return;
  const size_t bytes = table.bytes() / static_cast<size_t>(table.shape[0]);
  for (const int64_t index : rows) {
    const std::byte* row = table.as<std::byte>() + static_cast<size_t>(index) * bytes;
    for (size_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(row + at, 0, kIntoSecondLevel);
  }
}

// Of so many batches some columns are looked for that are not zero. Where it is a smaller share than this, the others
// are left out.
constexpr int64_t kBatchesLookedThrough = 8;
constexpr double kColumnsBelow = 0.8;

bool HasEmptyColumns(const DataTable& table, int64_t batch_rows) {
  const int64_t width = table.features.elements() / table.features.shape[0];
  std::vector<uint8_t> any(static_cast<size_t>(width));
  int64_t there = 0;
  for (int64_t batch = 0; batch < kBatchesLookedThrough; ++batch) {
    std::ranges::fill(any, uint8_t{0});
    for (int64_t i = 0; i < batch_rows; ++i) {
      // Far apart, as in a batch.
      const int64_t sample = (batch + i * kBatchesLookedThrough) * table.samples / (kBatchesLookedThrough * batch_rows);
      const uint8_t* row = table.features.as<uint8_t>() + (table.rows == nullptr ? sample : table.rows[sample]) * width;
      for (size_t c = 0; c < any.size(); ++c) any[c] |= row[c];
    }
    there += width - std::ranges::count(any, uint8_t{0});
  }
  return static_cast<double>(there) < kColumnsBelow * static_cast<double>(kBatchesLookedThrough * width);
}

// So many rows are looked through. Where a smaller share of them than this is not zero, zeros are left out.
constexpr int64_t kRowsLookedThrough = 64;
constexpr double kBytesBelow = 0.4;

bool IsMostlyZero(const DataTable& table) {
  const int64_t width = table.features.elements() / table.features.shape[0];
  const int64_t step = (table.samples + kRowsLookedThrough - 1) / kRowsLookedThrough;
  int64_t seen = 0, there = 0;
  for (int64_t i = 0; i < table.samples; i += step, seen += width) {
    const uint8_t* row = table.features.as<uint8_t>() + (table.rows == nullptr ? i : table.rows[i]) * width;
    there += width - std::count(row, row + width, uint8_t{0});
  }
  return static_cast<double>(there) < kBytesBelow * static_cast<double>(seen);
}

SampleForm FormOf(const DataTable& table, const SamplerOptions& options) {
  const bool bytes = table.features.type == DType::kU8 && table.offset == 0 && table.samples > 0;
  switch (bytes ? options.form : SampleForm::kAll) {
    case SampleForm::kColumns:
      if (options.sample.elements() > ColumnList::kMaxWidth) break;
      if (HasEmptyColumns(table, options.max_rows)) return SampleForm::kColumns;
      break;
    case SampleForm::kBytes:
      if (IsMostlyZero(table)) return SampleForm::kBytes;
      break;
    case SampleForm::kAll:
      break;
  }
  return SampleForm::kAll;
}

bool NeedsMaking(const DataTable& table, const v1::DatasetSpec& spec, bool training) {
  return table.source != nullptr || spec.has_normalize() || (training && !spec.augmentation().empty());
}

}  // namespace

Sampler::Sampler(Device* device, const DataTable& table, const v1::JobSpec& spec)
    : device_(device),
      samples_(table.samples),
      order_(table, spec.seed()),
      rows_(table.rows),
      seed_(spec.seed()),
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
  bool made = NeedsMaking(table, spec.dataset(), options.training);
  if (!made) {
    const absl::Status placed = sampler->PlaceTable(table);
    if (absl::IsResourceExhausted(placed)) {
      made = true;
    } else if (!placed.ok()) {
      return placed;
    }
  }
  LOCKSTEP_RETURN_IF_ERROR(made ? sampler->PrepareFeed(table, spec, options) : sampler->PrepareGather(table, options));
  return sampler;
}

absl::StatusOr<Tensor> Sampler::Allocate(const Shape& shape, DType type) {
  Tensor t{nullptr, shape, type};
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_->Allocate(t.bytes()));
  t.data = buffer->data();
  buffers_.push_back(std::move(buffer));
  return t;
}

absl::Status Sampler::PlaceTable(const DataTable& table) {
  std::vector<std::unique_ptr<Buffer>> taken;
  const auto place = [&](Tensor host) -> absl::StatusOr<Tensor> {
    // A part that there is none of has no memory, and a shape of one element.
    if (device_->host_accessible() || host.data == nullptr) return host;
    Tensor t{nullptr, host.shape, host.type};
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_->Allocate(t.bytes()));
    t.data = buffer->data();
    taken.push_back(std::move(buffer));
    return t;
  };
  LOCKSTEP_ASSIGN_OR_RETURN(features_, place(table.features));
  LOCKSTEP_ASSIGN_OR_RETURN(targets_, place(table.targets));
  if (taken.empty()) return absl::OkStatus();
  // There must be room for the device's scratch memory behind it.
  const size_t bytes = table.features.bytes() + table.targets.bytes();
  LOCKSTEP_RETURN_IF_ERROR(device_->Allocate(std::min(kScratchBytes, bytes / 8)).status());
  device_->CopyFromHost(features_.data, table.features.data, table.features.bytes());
  device_->CopyFromHost(targets_.data, table.targets.data, table.targets.bytes());
  std::ranges::move(taken, std::back_inserter(buffers_));
  return absl::OkStatus();
}

absl::Status Sampler::PrepareGather(const DataTable& table, const SamplerOptions& options) {
  const SampleForm form = FormOf(table, options);
  if (form != SampleForm::kBytes) {
    LOCKSTEP_ASSIGN_OR_RETURN(inputs_, Allocate(inputs_.shape, inputs_.type));
  }
  if (form == SampleForm::kColumns) {
    LOCKSTEP_ASSIGN_OR_RETURN(const Tensor columns, Allocate(Shape{options.sample.elements(), 2}, DType::kU8));
    columns_.columns = columns.as<uint16_t>();
    inputs_.columns = &columns_;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(batch_targets_, Allocate(batch_targets_.shape, batch_targets_.type));
  LOCKSTEP_ASSIGN_OR_RETURN(indices_, Allocate(Shape{options.max_rows}, DType::kI64));
  if (form == SampleForm::kBytes) {
    bytes_ = {.indices = indices_.as<int64_t>(), .scale = gather_.scale};
    inputs_.byte_rows = &bytes_;
  }
  host_indices_.resize(static_cast<size_t>(options.max_rows));
  next_indices_.resize(host_indices_.size());
  return absl::OkStatus();
}

absl::Status Sampler::PrepareFeed(const DataTable& table, const v1::JobSpec& spec, const SamplerOptions& options) {
  const int64_t target_width = batch_targets_.elements() / options.max_rows;
  const SlotBytes slot = BytesOfSlot(options.max_rows, options.sample.elements(), target_width);
  const int64_t slot_floats = slot.all / static_cast<int64_t>(sizeof(float));
  // A table that was to be gathered has none planned.
  const int64_t slots = options.slots < kFewestSlots ? kSlotsOfTable : options.slots;
  const Tensor ring{nullptr, Shape{slots * slot_floats}, DType::kF32};
  float* memory = nullptr;
  if (device_->host_accessible()) {
    // The batches are where they are made.
    LOCKSTEP_ASSIGN_OR_RETURN(const Tensor batches, Allocate(ring.shape, ring.type));
    memory = batches.as<float>();
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(uploads_, BatchUploads::Create(device_, inputs_, batch_targets_));
    LOCKSTEP_ASSIGN_OR_RETURN(std::byte* const host, uploads_->AllocateHost(ring.bytes()));
    memory = reinterpret_cast<float*>(host);
  }
  for (int64_t i = 0; i < slots; ++i) {
    float* features = memory + i * slot_floats;
    slots_.push_back({features, features + slot.targets_at / static_cast<int64_t>(sizeof(float))});
  }
  feed_ =
      std::make_unique<Feed>(table, spec.dataset(), options.sample, spec.seed(), options.training, options.max_rows);
  return absl::OkStatus();
}

void Sampler::Follow(PieceOrder order) {
  pieces_ = std::move(order);
  if (feed_ != nullptr) prefetcher_ = std::make_unique<Prefetcher>(feed_.get(), slots_, pieces_);
}

absl::StatusOr<Batch> Sampler::Take(const Piece& piece) {
  if (feed_ == nullptr) return Gather(piece);
  if (uploads_ != nullptr) return TakeUploaded(piece);
  LOCKSTEP_ASSIGN_OR_RETURN(const Prefetcher::Slot made, Made(piece));
  Batch batch{FirstRows(inputs_, piece.rows), FirstRows(batch_targets_, piece.rows), piece.rows};
  batch.inputs.data = made.features;
  batch.targets.data = made.targets;
  return batch;
}

absl::StatusOr<Batch> Sampler::TakeUploaded(const Piece& piece) {
  LOCKSTEP_RETURN_IF_ERROR(upload_status_);
  if (std::exchange(uploading_, std::nullopt) != piece) {
    uploads_->Finish();
    LOCKSTEP_ASSIGN_OR_RETURN(const Prefetcher::Slot made, Made(piece));
    uploads_->Begin(made, piece.rows);
  }
  const Batch batch = uploads_->Take();
  if (prefetcher_ != nullptr) {
    UploadAhead();
  } else {
    uploads_->Finish();
  }
  return batch;
}

// While the device works on the batch that was just taken.
void Sampler::UploadAhead() {
  const std::optional<Piece> next = pieces_(++taken_);
  if (!next.has_value() || !prefetcher_->ready()) return;
  // The slot that it came from is given back.
  uploads_->Finish();
  const absl::StatusOr<Prefetcher::Slot> made = Made(*next);
  upload_status_ = made.status();
  if (!made.ok()) return;
  uploads_->Begin(*made, next->rows);
  uploading_ = next;
}

absl::StatusOr<Batch> Sampler::TakeAgain(const Piece& piece) {
  // Its thread is the feed's only user.
  prefetcher_.reset();
  uploading_.reset();
  return Take(piece);
}

absl::StatusOr<Prefetcher::Slot> Sampler::Made(const Piece& piece) {
  absl::StatusOr<Prefetcher::Slot> made = slots_[0];
  if (prefetcher_ != nullptr) {
    made = prefetcher_->Next(piece);
  } else if (absl::Status status = feed_->Make(piece, slots_[0].features, slots_[0].targets); !status.ok()) {
    made = std::move(status);
  }
  // A disk may come back; a file that was cut short stays so.
  return made.ok() || absl::IsUnavailable(made.status()) ? made : Permanent(made.status());
}

Batch Sampler::Gather(const Piece& piece) {
  Batch batch{FirstRows(inputs_, piece.rows), FirstRows(batch_targets_, piece.rows), piece.rows};
  if (next_piece_ == piece) {
    host_indices_.swap(next_indices_);
  } else {
    order_.Fill(piece, host_indices_.data());
  }
  if (!table_stays_) MoveTable(piece.epoch);
  if (pieces_) LookAhead();
  if (piece.rows == 0) return batch;
  const Tensor indices = FirstRows(indices_, piece.rows);
  device_->CopyFromHost(indices.data, host_indices_.data(), indices.bytes());
  const Tensor rows = batch.inputs.Reshaped(Shape{piece.rows, inputs_.elements() / inputs_.shape[0]});
  if (rows.byte_rows != nullptr) {
    bytes_.table = features_.as<uint8_t>();
  } else if (rows.columns != nullptr) {
    device_->GatherColumns(features_, indices, gather_, &columns_, rows);
  } else {
    device_->GatherRows(features_, indices, gather_, rows);
  }
  if (batch_targets_.type == DType::kI32) {
    device_->GatherLabels(targets_, indices, batch.targets);
  } else {
    device_->GatherRows(targets_, indices, GatherArgs{}, batch.targets);
  }
  return batch;
}

absl::Status Sampler::PrepareRecording(int64_t batch_size, int64_t steps_per_epoch) {
  recorded_ = {.features = features_,
               .gather = gather_,
               .targets = targets_,
               .samples = samples_,
               .seed = seed_,
               .batch_size = batch_size,
               .steps_per_epoch = steps_per_epoch};
  if (rows_ == nullptr) return absl::OkStatus();
  LOCKSTEP_ASSIGN_OR_RETURN(recorded_.rows, Allocate(Shape{samples_}, DType::kI64));
  device_->CopyFromHost(recorded_.rows.data, rows_, recorded_.rows.bytes());
  return absl::OkStatus();
}

Batch Sampler::RecordTake(StepRecorder& recorder, int64_t first, int64_t rows) {
  Batch batch{FirstRows(inputs_, rows), FirstRows(batch_targets_, rows), rows};
  const int64_t width = inputs_.elements() / inputs_.shape[0];
  recorder.GatherSamples(recorded_, first, batch.inputs.Reshaped(Shape{rows, width}), batch.targets);
  return batch;
}

void Sampler::MoveTable(int64_t epoch) {
  if (first_epoch_ == Piece::kAsStored) first_epoch_ = epoch;
  if (epoch == first_epoch_) return;
  if (copy_ == nullptr) {
    if (device_->host_accessible()) copy_ = LargePageCopy::Begin(features_.data, features_.bytes());
    table_stays_ = copy_ == nullptr;
  } else if (copy_->Advance()) {
    features_.data = copy_->data();
    table_stays_ = true;
  }
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
