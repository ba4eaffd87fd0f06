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
#include "worker/data/prefetcher.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"

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
};

class Sampler {
 public:
  // Copies the table to the device where it is gathered from and the device cannot read host memory. `table` and
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

  int64_t samples() const { return samples_; }

 private:
  Sampler(Device* device, const DataTable& table, const lockstep::v1::JobSpec& spec);

  absl::Status PrepareGather(const DataTable& table, const SamplerOptions& options);
  absl::Status PrepareFeed(const DataTable& table, const lockstep::v1::JobSpec& spec, const SamplerOptions& options);
  absl::StatusOr<Tensor> Allocate(const Shape& shape, DType type);
  Batch Gather(const Piece& piece);
  void LookAhead();
  absl::StatusOr<Prefetcher::Slot> Made(const Piece& piece);

  Device* device_;
  int64_t samples_;
  RowOrder order_;
  GatherArgs gather_;
  // On the device.
  Tensor features_;
  Tensor targets_;
  // The batch: [max_rows, sample...]. Null data where the slots are the batches.
  Tensor inputs_;
  Tensor batch_targets_;
  Tensor indices_;
  std::vector<int64_t> host_indices_;
  // What is gathered next, where that is known: its rows are on their way into the cache meanwhile.
  PieceOrder pieces_;
  int64_t taken_ = 0;
  std::optional<Piece> next_piece_;
  std::vector<int64_t> next_indices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;

  // Where batches are made; null where they are gathered.
  std::unique_ptr<Feed> feed_;
  std::vector<Prefetcher::Slot> slots_;
  // The slots' memory where it is not the device's.
  std::vector<float> host_slots_;
  // Last, so that its thread is gone before what it uses.
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace lockstep
