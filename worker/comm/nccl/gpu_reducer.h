// SPDX-License-Identifier: Apache-2.0
// GpuReducer: NcclReducer for a loop on the host, which writes the scalars there and reads their sums. Gradients stay
// on the GPU: the spans of floats are device memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "worker/comm/nccl/nccl_reducer.h"
#include "worker/comm/reducer.h"

namespace lockstep::nccl {

class GpuReducer final : public Reducer {
 public:
  // See NcclReducer::Create; `ops` becomes the reducer's own.
  static absl::StatusOr<std::unique_ptr<GpuReducer>> Create(NcclGroup* group, std::unique_ptr<ReduceOps> ops,
                                                            ReducerOptions options);

  std::span<float> shard_gradient() override;
  std::span<double> shard_scalars() override;
  void CommitShard() override;
  // See NcclReducer::LayerDone.
  void LayersDone(int layer) override { reducer_->LayerDone(layer); }
  // Waits for the sum, as NcclGroup::Await does.
  absl::Status Finish() override;
  std::span<float> sum() override;
  std::span<const double> scalar_sums() const override;
  std::optional<bool> finite() const override;
  EnqueuedReducer* enqueued() override { return reducer_.get(); }

 private:
  GpuReducer(NcclGroup* group, std::unique_ptr<ReduceOps> ops, const ReducerOptions& options);
  absl::Status Build(ReducerOptions options);

  NcclGroup* const group_;
  const std::unique_ptr<ReduceOps> ops_;
  const int64_t elements_;
  const size_t scalars_;
  std::unique_ptr<NcclReducer> reducer_;
  // Where the GPU reads and writes by itself: the scalars of each owned shard, the sums, and the flag.
  double* host_ = nullptr;
  double* sums_ = nullptr;
  size_t shards_ = 0;
  size_t next_ = 0;
  bool fresh_ = true;
  absl::Status deferred_;
};

}  // namespace lockstep::nccl
