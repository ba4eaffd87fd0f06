// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/nccl/gpu_reducer.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace lockstep::nccl {

GpuReducer::GpuReducer(NcclGroup* group, std::unique_ptr<ReduceOps> ops, const ReducerOptions& options)
    : group_(group),
      ops_(std::move(ops)),
      elements_(options.elements),
      scalars_(static_cast<size_t>(options.scalars)) {}

absl::StatusOr<std::unique_ptr<GpuReducer>> GpuReducer::Create(NcclGroup* group, std::unique_ptr<ReduceOps> ops,
                                                               ReducerOptions options) {
  std::unique_ptr<GpuReducer> reducer(new GpuReducer(group, std::move(ops), options));
  LOCKSTEP_RETURN_IF_ERROR(reducer->Build(std::move(options)));
  return reducer;
}

absl::Status GpuReducer::Build(ReducerOptions options) {
  const int rank = group_ == nullptr ? 0 : group_->rank(), size = group_ == nullptr ? 1 : group_->size();
  const ShardRange owned = OwnedShards(rank, size, options.shards);
  shards_ = static_cast<size_t>(owned.end - owned.first);
  LOCKSTEP_ASSIGN_OR_RETURN(reducer_, NcclReducer::Create(group_, ops_.get(), std::move(options)));
  LOCKSTEP_ASSIGN_OR_RETURN(void* const host, ops_->AllocateHost(((shards_ + 1) * scalars_ + 1) * sizeof(double)));
  host_ = static_cast<double*>(host);
  sums_ = host_ + shards_ * scalars_;
  return absl::OkStatus();
}

std::span<float> GpuReducer::shard_gradient() { return {reducer_->shard_gradient(), static_cast<size_t>(elements_)}; }

std::span<double> GpuReducer::shard_scalars() {
  const std::span<double> scalars(host_ + next_ * scalars_, scalars_);
  if (std::exchange(fresh_, false)) std::ranges::fill(scalars, 0.0);
  return scalars;
}

void GpuReducer::CommitShard() {
  const std::span<double> scalars = shard_scalars();
  ops_->Copy(Lane::kCompute, reducer_->shard_scalars(), scalars.data(), scalars.size_bytes());
  deferred_.Update(reducer_->CommitShard());
  fresh_ = true;
  ++next_;
}

absl::Status GpuReducer::Finish() {
  LOCKSTEP_RETURN_IF_ERROR(deferred_);
  LOCKSTEP_RETURN_IF_ERROR(reducer_->Finish());
  next_ = 0;
  ops_->Copy(Lane::kCompute, sums_, reducer_->scalar_sums(), scalars_ * sizeof(double));
  if (reducer_->not_finite() != nullptr) {
    ops_->Copy(Lane::kCompute, sums_ + scalars_, reducer_->not_finite(), sizeof(double));
  }
  ops_->Mark(Lane::kCompute);
  if (group_ != nullptr) return group_->Await("to sum gradients", [&] { return ops_->Reached(); });
  // Nobody to wait for but this rank's own GPU.
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool reached, ops_->Reached());
    if (reached) return absl::OkStatus();
    sched_yield();
  }
}

std::span<float> GpuReducer::sum() { return {reducer_->sum(), static_cast<size_t>(elements_)}; }

std::span<const double> GpuReducer::scalar_sums() const { return {sums_, scalars_}; }

std::optional<bool> GpuReducer::finite() const {
  if (reducer_->not_finite() == nullptr) return std::nullopt;
  return sums_[scalars_] == 0;
}

}  // namespace lockstep::nccl
