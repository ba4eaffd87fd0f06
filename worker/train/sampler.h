// SPDX-License-Identifier: Apache-2.0
// Sampler: brings rows of a data table into a batch on the device. Where nothing need be done to them and all are
// in memory, they are gathered when they are asked for; else a thread makes the batches ahead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/feed.h"
#include "worker/data/large_page_copy.h"
#include "worker/data/prefetcher.h"
#include "worker/device/device.h"
#include "worker/device/step_recorder.h"
#include "worker/nn/model.h"
#include "worker/train/batch_uploads.h"

namespace lockstep {

struct SamplerOptions {
  // Of one sample.
  Shape sample;
  // Of one batch.
  int64_t max_rows = 1;
  // Batches of the ring, at least 2.
  int64_t slots = 2;
  // False: held-out samples, which are normalised but not augmented.
  bool training = true;
  // In which a batch's inputs may be; see Model::FormOfSamples.
  SampleForm form = SampleForm::kAll;
};

class Sampler {
 public:
  // Copies the table to the device where it is gathered from and the device cannot read host memory; where it does not
  // fit, batches are made on the host as if they had to be. `table` and
  // `device` outlive the sampler. `spec` says what is done to the samples and their order's seed.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Device* device, const DataTable& table,
                                                         const lockstep::v1::JobSpec& spec,
                                                         const SamplerOptions& options);

  // From here on pieces are asked for in this order, so that they can be made ahead. Without it each one is made
  // when it is asked for. At most once, before the first.
  void Follow(PieceOrder order);

  // The piece's samples. The batch is overwritten by the next call. Allocates nothing. Errors: see RowSource; those
  // that would come again are permanent.
  absl::StatusOr<Batch> Take(const Piece& piece);

  // The same for a piece that may have been taken before. Nothing is made ahead any more: for a look back
  // before the end.
  absl::StatusOr<Batch> TakeAgain(const Piece& piece);

  // True: samples lie in memory of the device, which can gather them by itself.
  bool gathers_on_device() const { return feed_ == nullptr && !device_->host_accessible(); }
  // Before RecordTake; only where gathers_on_device. RESOURCE_EXHAUSTED where the device's memory is short.
  absl::Status PrepareRecording(int64_t batch_size, int64_t steps_per_epoch);
  // While a step is recorded: samples [first, first + rows) of the batch of the step that runs, in the order of Piece.
  Batch RecordTake(StepRecorder& recorder, int64_t first, int64_t rows);
  // So many pieces of the order were not asked for.
  void Skip(int64_t pieces) { taken_ += pieces; }

  int64_t samples() const { return samples_; }

 private:
  Sampler(Device* device, const DataTable& table, const lockstep::v1::JobSpec& spec);

  // Into the device's memory, where it cannot read the host's. RESOURCE_EXHAUSTED: it does not fit, and nothing is
  // there.
  absl::Status PlaceTable(const DataTable& table);
  absl::Status PrepareGather(const DataTable& table, const SamplerOptions& options);
  absl::Status PrepareFeed(const DataTable& table, const lockstep::v1::JobSpec& spec, const SamplerOptions& options);
  absl::StatusOr<Tensor> Allocate(const Shape& shape, DType type);
  Batch Gather(const Piece& piece);
  void LookAhead();
  // From the second epoch on: whoever trains for one has no use for a copy.
  void MoveTable(int64_t epoch);
  absl::StatusOr<Prefetcher::Slot> Made(const Piece& piece);
  // The batch on a device with memory of its own.
  absl::StatusOr<Batch> TakeUploaded(const Piece& piece);
  // The next one begins to go there, where it is made.
  void UploadAhead();

  Device* device_;
  int64_t samples_;
  RowOrder order_;
  const int64_t* rows_;
  uint64_t seed_;
  GatherArgs gather_;
  // On the device.
  Tensor features_;
  Tensor targets_;
  // Takes the place of features_' memory once it is complete. Null: it is not begun, or brings nothing.
  std::unique_ptr<LargePageCopy> copy_;
  int64_t first_epoch_ = Piece::kAsStored;
  bool table_stays_ = false;
  // The batch: [max_rows, sample...]. Null data where the slots are the batches.
  Tensor inputs_;
  Tensor batch_targets_;
  Tensor indices_;
  // What inputs_ is, where it is not all numbers.
  ColumnList columns_;
  ByteRows bytes_;
  std::vector<int64_t> host_indices_;
  // What is gathered next, where that is known: its rows are on their way into the cache meanwhile.
  PieceOrder pieces_;
  int64_t taken_ = 0;
  std::optional<Piece> next_piece_;
  std::vector<int64_t> next_indices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  // For recorded steps.
  SampleTable recorded_;

  // Where batches are made; null where they are gathered.
  std::unique_ptr<Feed> feed_;
  std::vector<Prefetcher::Slot> slots_;
  // Where the slots' memory is not the device's; its copies end before the memory goes.
  std::unique_ptr<BatchUploads> uploads_;
  // What is on its way to the device, and what went wrong with it.
  std::optional<Piece> uploading_;
  absl::Status upload_status_;
  // Last, so that its thread is gone before what it uses.
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace lockstep
