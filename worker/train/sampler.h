// SPDX-License-Identifier: Apache-2.0
// Sampler: brings rows of a data table into a batch on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/permutation.h"
#include "worker/data/dataset.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"

namespace lockstep {

class Sampler {
 public:
  // Copies the table to the device where the device cannot read host memory. `table` and `device`
  // outlive the sampler. `max_rows`: of one batch.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Device* device, const DataTable& table, const Shape& sample,
                                                         int64_t max_rows);

  // The samples at positions [first, first + rows) of the order. The batch is overwritten by the next
  // call. Allocates nothing.
  Batch Shuffled(const Permutation& order, int64_t first, int64_t rows);
  // The same in the order in which they are stored.
  Batch InOrder(int64_t first, int64_t rows);

  int64_t samples() const { return samples_; }

 private:
  Sampler() = default;
  Batch Gather(int64_t rows);

  Device* device_ = nullptr;
  int64_t samples_ = 0;
  GatherArgs gather_;
  bool labels_ = false;
  // On the device.
  Tensor features_;
  Tensor targets_;
  // The batch: [max_rows, sample...].
  Tensor inputs_;
  Tensor batch_targets_;
  Tensor indices_;
  std::vector<int64_t> host_indices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace lockstep
