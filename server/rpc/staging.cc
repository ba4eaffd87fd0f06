// SPDX-License-Identifier: Apache-2.0
// The core's effects that are stored: rows, and the events that people see.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/model/monitor.h"
#include "common/model/step_phases.h"
#include "server/rpc/convert.h"
#include "server/rpc/coordinator.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

void Coordinator::Stage(const core::Effect& effect, Input& input, Round& round) {
  std::visit([&](const auto& one) { StageOne(one, input, round); }, effect);
}

Coordinator::Live& Coordinator::Touch(const std::string& job_id, Round& round) {
  const auto it = live_.find(job_id);
  if (!undo_live_.contains(job_id)) {
    undo_live_[job_id] = it == live_.end() ? std::nullopt : std::optional<Live>(it->second);
  }
  round.dirty.insert(job_id);
  return live_[job_id];
}

void Coordinator::AddEvent(const std::string& job_id, v1::JobEvent event, Round& round) {
  Live& live = Touch(job_id, round);
  event.set_sequence(++live.last_sequence);
  *event.mutable_time() = ToProto(clock_->WallNow());
  round.changes.push_back(store::AppendEvent{job_id, event.sequence(), event.SerializeAsString()});
  round.events.emplace_back(job_id, std::move(event));
}

void Coordinator::StageUpdates(Round& round) {
  for (const std::string& job_id : round.dirty) {
    v1::Job& job = live_.at(job_id).job;
    const core::Job* known = state_.Find(job_id);
    store::UpdateJob update{
        job_id, static_cast<core::JobState>(job.state()), job.generation(), job.cancel_requested(), "", "", {}};
    if (known != nullptr) {
      job.set_workers(known->shape.workers);
      job.set_restarts(known->restarts);
      update.cancel_reason = known->cancel_reason;
      update.live = {known->shape.workers, known->group_size(), known->epochs,
                     known->high_water,    known->restarts,     known->stopped_at};
    }
    update.status = job.SerializeAsString();
    round.changes.push_back(std::move(update));
  }
}

void Coordinator::StageOne(const core::StoreState& effect, Input& input, Round& round) {
  const bool is_new = !live_.contains(effect.job);
  Live& live = Touch(effect.job, round);
  const auto now = ToProto(clock_->WallNow());
  if (is_new) {
    const Submission& submission = *input.submission;
    live.spec = std::make_shared<const v1::JobSpec>(submission.spec);
    live.job.set_job_id(effect.job);
    *live.job.mutable_create_time() = now;
    live.job.set_output_dir(files_.OutputDir(effect.job));
    live.job.mutable_progress()->set_total_steps(submission.shape.total_steps);
    live.job.mutable_progress()->set_total_epochs(submission.spec.training().epochs());
    round.changes.push_back(store::InsertJob{{.job_id = effect.job,
                                              .order = last_order_,
                                              .shape = submission.shape,
                                              .spec = live.spec->SerializeAsString()}});
    if (!submission.start_checkpoint.empty()) {
      round.changes.push_back(
          store::InsertCheckpoint{effect.job, 0, submission.shape.first_step, submission.start_checkpoint, false});
    }
    round.actions.push_back([this, job_id = effect.job, spec = live.spec] {
      if (absl::Status status = files_.Begin(job_id, *spec); !status.ok()) {
        LogWarning(std::string(status.message()));
      }
    });
  }
  live.job.set_state(ToProto(effect.state));
  std::string reason = effect.reason;
  if (effect.stopped_early) {
    const v1::EarlyStoppingSpec& stopping = live.spec->training().early_stopping();
    absl::StrAppend(&reason, ": ", DescribeStop(stopping, live.job.progress().has_test_loss()));
  }
  live.job.set_reason(reason);
  live.job.set_generation(effect.generation);
  if (effect.state == core::JobState::kRunning && !live.job.has_start_time()) *live.job.mutable_start_time() = now;
  if (core::IsEnded(effect.state)) *live.job.mutable_end_time() = now;
  v1::JobEvent event;
  event.mutable_state_changed()->set_state(ToProto(effect.state));
  event.mutable_state_changed()->set_reason(reason);
  event.mutable_state_changed()->set_generation(effect.generation);
  event.mutable_state_changed()->set_restarts(effect.restarts);
  AddEvent(effect.job, std::move(event), round);
  round.actions.push_back([job = effect.job, state = std::string(core::JobStateName(effect.state)), reason] {
    LogInfo(absl::StrCat("job ", job, ": ", state, ": ", reason));
  });
  if (core::IsEnded(effect.state)) round.actions.push_back([this, job = effect.job] { Forget(job); });
}

void Coordinator::StageOne(const core::StoreGeneration& effect, Input&, Round& round) {
  Live& live = Touch(effect.job, round);
  live.job.set_generation(effect.generation);
  v1::JobProgress& progress = *live.job.mutable_progress();
  progress.set_step(effect.first_step);
  // Training that had stopped early may go on from before that.
  const core::Job* known = state_.Find(effect.job);
  if (known != nullptr && known->stopped_at == 0) {
    progress.set_total_steps(known->shape.total_steps);
    progress.set_total_epochs(live.spec->training().epochs());
  }
  round.changes.push_back(store::OpenGeneration{effect.job, effect.generation, effect.first_step});
}

void Coordinator::StageOne(const core::StoreSteps& effect, Input& input, Round& round) {
  Live& live = Touch(effect.job, round);
  round.changes.push_back(
      store::AppendLedger{effect.job, effect.generation, effect.first_step, effect.end_step, effect.snapshot});
  v1::JobEvent event;
  v1::StepsCommitted& steps = *event.mutable_steps_committed() = input.report.commit_steps().steps();
  steps.set_total_steps(live.job.progress().total_steps());
  v1::JobProgress& progress = *live.job.mutable_progress();
  progress.set_step(effect.end_step);
  progress.set_train_loss(steps.loss());
  if (steps.has_accuracy()) progress.set_train_accuracy(steps.accuracy());
  progress.set_samples_per_second(steps.samples_per_second());
  progress.set_data_wait_share(DataWaitShare(steps.phases()));
  AddEvent(effect.job, std::move(event), round);
}

void Coordinator::StageOne(const core::StoreEpoch& effect, Input& input, Round& round) {
  Live& live = Touch(effect.job, round);
  v1::JobEvent event;
  const v1::EpochCompleted& epoch = *event.mutable_epoch_completed() = input.report.epoch_completed();
  v1::JobProgress& progress = *live.job.mutable_progress();
  progress.set_epoch(epoch.epoch());
  if (epoch.has_test_loss()) progress.set_test_loss(epoch.test_loss());
  if (epoch.has_test_accuracy()) progress.set_test_accuracy(epoch.test_accuracy());
  if (epoch.has_test_r_squared()) progress.set_test_r_squared(epoch.test_r_squared());
  AddEvent(effect.job, std::move(event), round);
}

void Coordinator::StageOne(const core::StoreEarlyStop& effect, Input&, Round& round) {
  // There is nothing more to do, and so it is shown.
  v1::JobProgress& progress = *Touch(effect.job, round).job.mutable_progress();
  progress.set_total_steps(effect.step);
  progress.set_total_epochs(progress.epoch());
}

void Coordinator::StageOne(const core::StoreCheckpoint& effect, Input& input, Round& round) {
  round.changes.push_back(
      store::InsertCheckpoint{effect.job, effect.generation, effect.step, effect.path, effect.final});
  v1::JobEvent event;
  *event.mutable_checkpoint_saved() = input.report.checkpoint_saved();
  AddEvent(effect.job, std::move(event), round);
}

void Coordinator::StageOne(const core::StoreCancelRequest& effect, Input&, Round& round) {
  Live& live = Touch(effect.job, round);
  live.job.set_cancel_requested(true);
  live.job.set_reason(effect.reason.empty() ? "is being cancelled" : "is being cancelled: " + effect.reason);
}

void Coordinator::StageOne(const core::StoreWorker& effect, Input&, Round& round) {
  v1::JobEvent event;
  v1::WorkerChanged& worker = *event.mutable_worker_changed();
  worker.set_rank(effect.rank);
  worker.set_host(effect.host);
  worker.set_pid(effect.pid);
  worker.set_connected(effect.connected);
  worker.set_generation(effect.generation);
  AddEvent(effect.job, std::move(event), round);
}

void Coordinator::StageOne(const core::StoreRank& effect, Input&, Round& round) {
  round.changes.push_back(store::PutRank{effect.job, effect.generation, effect.rank, effect.state});
}

void Coordinator::StageOne(const core::StoreDigest& effect, Input& input, Round& round) {
  // Known already where the step is done again: the same bits must come out, where they are promised.
  const auto known = store_->Digests(effect.job, effect.step - 1, 1);
  if (known.ok() && !known->empty() && known->front().step == effect.step && known->front().digest != effect.digest &&
      live_.at(effect.job).spec->training().reduction() != v1::REDUCTION_FASTEST) {
    StageOne(core::StoreWarning{effect.job, core::WarningKind::kDivergence,
                                absl::StrCat("step ", effect.step, " was done again with other bits: digest ",
                                             effect.digest, ", before it was ", known->front().digest)},
             input, round);
  }
  round.changes.push_back(store::PutDigest{effect.job, effect.step, effect.digest});
}

void Coordinator::StageOne(const core::VoidCheckpoint& effect, Input&, Round& round) {
  round.changes.push_back(store::DropCheckpoint{effect.job, effect.step});
}

void Coordinator::StageOne(const core::VoidSnapshots& effect, Input&, Round& round) {
  round.changes.push_back(store::DropSnapshots{effect.job, effect.after});
}

void Coordinator::StageOne(const core::StoreScale& effect, Input&, Round& round) { Touch(effect.job, round); }

void Coordinator::StageOne(const core::StoreWarning& effect, Input& input, Round& round) {
  v1::JobEvent event;
  v1::Warning& warning = *event.mutable_warning();
  if (effect.message.empty()) warning = input.report.warning();
  if (!effect.message.empty()) {
    warning.set_message(effect.message);
    warning.set_kind(static_cast<v1::WarningKind>(effect.kind));
  }
  round.actions.push_back(
      [job = effect.job, message = warning.message()] { LogWarning(absl::StrCat("job ", job, ": ", message)); });
  AddEvent(effect.job, std::move(event), round);
}

}  // namespace lockstep::rpc
