// SPDX-License-Identifier: Apache-2.0
// What the trainer does about numbers that are not finite.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/train/failure.h"
#include "worker/train/non_finite.h"
#include "worker/train/trainer.h"

namespace lockstep {

absl::Status Trainer::OnNonFinite(int64_t step, const StepPlace& place, Tensor gradient) {
  const v1::NonFinitePolicy policy = config_.spec.training().non_finite();
  if (policy == v1::NON_FINITE_POLICY_ROLL_BACK) {
    keeper_->RollBack();
    if (sliced_update_) sliced_update_->Forget();
  }
  if (policy == v1::NON_FINITE_POLICY_ROLL_BACK || policy == v1::NON_FINITE_POLICY_SKIP_STEP) {
    if (non_finite_steps_++ == 0) first_non_finite_ = step;
    return absl::OkStatus();
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string where, FindNonFinite(step, place, gradient));
  return Permanent(absl::InvalidArgumentError(absl::StrCat(
      "the loss or its gradient is not a finite number in step ", step, " (epoch ", place.epoch + 1, ")", where,
      ": training diverges; lower the learning rate, look for extreme values in the data, or set "
      "training.non_finite. The step was not applied")));
}

void Trainer::LookThrough(int shard, size_t lane, const Batch& batch, Tensor gradient, Tensor stats,
                          NonFiniteRecord& first) {
  double loss = 0;
  device_->CopyToHost(&loss, stats.data, sizeof(loss));
  const int64_t found = model_->FirstNonFinite(lane, batch, std::isfinite(loss), gradient, flag_);
  if (found >= 0 && found < first.place) first = {found, shard, communicator_->rank()};
}

absl::StatusOr<std::string> Trainer::FindNonFinite(int64_t step, const StepPlace& place, Tensor gradient) {
  if (sliced_update_) LOCKSTEP_RETURN_IF_ERROR(sliced_update_->SumOfAll());
  // Before its memory is used for the shards.
  const int64_t in_sum = model_->FirstNonFiniteGradient(gradient, flag_);
  NonFiniteRecord mine{.rank = communicator_->rank()};
  if (whole_batch_ != nullptr) {
    // All of the rank's shards are still in the model.
    size_t lane = 0;
    for (const ShardTask& task : whole_batch_->tasks()) {
      LookThrough(owned_.first + static_cast<int>(lane), lane, task.batch, task.gradient, task.stats, mine);
      ++lane;
    }
  }
  for (int shard = owned_.first; shard < owned_.end && whole_batch_ == nullptr; ++shard) {
    const Piece piece = PieceOf(place, shard);
    LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, train_sampler_->TakeAgain(piece));
    StepContext context = ContextOf(step, place);
    context.first_row = piece.first - place.first_position;
    device_->Fill(stats_, 0);
    model_->ForwardBackward(context, batch, 1.0 / static_cast<double>(place.rows), gradient, stats_, nullptr);
    LookThrough(shard, 0, batch, gradient, stats_, mine);
    link_->progress().Advance();
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const NonFiniteRecord first, FirstOfAll(*communicator_, mine));
  if (first.place != NonFiniteRecord::kNowhere) {
    return absl::StrCat(", first in ", model_->PlaceName(first.place), " of shard ", first.shard, " on rank ",
                        first.rank);
  }
  if (in_sum < 0) return std::string();
  return absl::StrCat(", first in the sum over the shards of ", model_->PlaceName(in_sum));
}

}  // namespace lockstep
