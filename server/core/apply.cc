// SPDX-License-Identifier: Apache-2.0
#include "server/core/apply.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/rules.h"

namespace lockstep::core {
namespace {

absl::Status Handle(Context& context, const JobSubmitted& event) {
  if (context.state.draining()) return absl::UnavailableError("the coordinator is stopping; submit again later");
  if (event.shape.workers < 1 || event.shape.logical_shards < 1 || event.shape.total_steps < 1) {
    return absl::InvalidArgumentError("a job has at least one worker, one logical shard and one step");
  }
  if (event.shape.workers > context.state.slots()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the job asks for ", event.shape.workers, " workers but the coordinator has ", context.state.slots(),
        " slots: ask for fewer workers, or start lockstepd with --slots=", event.shape.workers, " or more"));
  }
  if (context.state.Find(event.job) != nullptr) return absl::AlreadyExistsError(absl::StrCat(event.job, " exists"));
  Job job;
  job.id = event.job;
  job.order = event.order;
  job.shape = event.shape;
  job.committed = event.shape.first_step;
  job.high_water = event.shape.first_step;
  job.epochs = event.shape.first_step / std::max<int64_t>(1, event.shape.steps_per_epoch);
  if (!event.start_checkpoint.empty()) job.checkpoints[event.shape.first_step] = event.start_checkpoint;
  context.state.Add(std::move(job));
  const int needed = event.shape.workers;
  const int free = context.state.free_slots();
  context.Do(StoreState{event.job, JobState::kQueued,
                        absl::StrCat("waits for ", needed, needed == 1 ? " slot" : " slots", " (", free, " of ",
                                     context.state.slots(), " free)"),
                        0});
  Schedule(context);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const JobRecovered& event) {
  Job job = event.job;
  const JobId id = job.id;
  const bool was_active = IsActive(job.state);
  if (was_active) {
    job.resumed_from = job.Resume();
    job.agreed = job.resumed_from.step;
    for (int r = 0; r < job.group_size(); ++r) {
      // A group that runs has done with its start, also where it is not heard of again.
      if (job.state == JobState::kRunning) job.ranks[r].phase = Phase::kStep;
      if (job.ranks[r].farewell == Farewell::kFailed && job.failure.empty() && !job.cancel_requested) {
        job.failure = absl::StrCat("rank ", r, " (pid ", job.ranks[r].pid, " on host ", job.ranks[r].host,
                                   ") failed before the coordinator was started again");
      }
    }
  } else {
    job.ranks.clear();
  }
  const bool failed = !job.failure.empty();
  context.state.Add(std::move(job));
  const Job& added = *context.state.Find(id);
  if (was_active) {
    const int64_t generation = added.generation;
    const bool starting = added.state == JobState::kStarting;
    const bool cancelled = added.cancel_requested;
    if (starting) context.Do(StartTimer{id, generation, TimerKind::kStartup, context.limits.startup});
    if (cancelled) context.Do(StartTimer{id, generation, TimerKind::kKill, context.limits.cancel_grace});
    if (failed) context.Do(KillGroup{id, generation});
    context.Do(StartTimer{id, generation, TimerKind::kWatch, context.limits.watch});
  } else if (added.cancel_requested) {
    MoveTo(context, id, JobState::kCancelled,
           added.cancel_reason.empty() ? "cancelled" : absl::StrCat("cancelled: ", added.cancel_reason));
  }
  // Scheduling waits until every job is back, or a later one could overtake.
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const CancelAsked& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr) return absl::NotFoundError(absl::StrCat("no live job ", event.job));
  const std::string reason = event.reason.empty() ? "cancelled" : absl::StrCat("cancelled: ", event.reason);
  if (job->state == JobState::kQueued) {
    MoveTo(context, event.job, JobState::kCancelled, reason);
    Schedule(context);
    return absl::OkStatus();
  }
  if (job->cancel_requested) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) {
    changed.cancel_requested = true;
    changed.cancel_reason = event.reason;
  });
  context.Do(StoreCancelRequest{event.job, event.reason});
  StopGroup(context, event.job, reason, false);
  const int64_t generation = context.state.Find(event.job)->generation;
  context.Do(StartTimer{event.job, generation, TimerKind::kKill, context.limits.cancel_grace});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const ScaleAsked& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr) return absl::NotFoundError(absl::StrCat("no live job ", event.job));
  if (event.workers < 1 || event.workers > job->shape.logical_shards) {
    return absl::InvalidArgumentError(absl::StrCat("a job of ", job->shape.logical_shards, " logical shards has 1 to ",
                                                   job->shape.logical_shards, " workers, not ", event.workers,
                                                   "; training.logical_shards is fixed at submit"));
  }
  if (event.workers > context.state.slots()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the coordinator has ", context.state.slots(), " slots, fewer than ", event.workers));
  }
  if (job->cancel_requested) return absl::FailedPreconditionError("the job is being cancelled");
  if (event.workers == job->shape.workers) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) { changed.shape.workers = event.workers; });
  context.Do(StoreScale{event.job, event.workers});
  Schedule(context);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const ResumeAsked& event) {
  if (context.state.draining()) return absl::UnavailableError("the coordinator is stopping; try again later");
  if (context.state.Find(event.job.id) != nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("job ", event.job.id, " has not ended"));
  }
  Job job = event.job;
  // They went with the job's end.
  job.snapshots.clear();
  const int64_t step = event.from_step.value_or(job.Resume().step);
  const bool known = job.checkpoints.contains(step) || (step == job.shape.first_step && step == 0);
  if (!known || step > job.committed) {
    return absl::NotFoundError(absl::StrCat("job ", job.id, " has no checkpoint at step ", step));
  }
  if (!event.from_step.has_value() && job.state == JobState::kSucceeded) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", job.id, " has succeeded: say with from_step where it should begin again"));
  }
  job.committed = step;
  job.high_water = step;
  if (step < job.stopped_at) job.stopped_at = 0;
  // What lies after this place is done, reported and saved again.
  job.epochs = std::min(job.epochs, step / std::max<int64_t>(1, job.shape.steps_per_epoch));
  job.checkpoints.erase(job.checkpoints.upper_bound(step), job.checkpoints.end());
  job.ranks.clear();
  job.causes.clear();
  job.cancel_requested = false;
  job.cancel_reason.clear();
  job.state = JobState::kQueued;
  ++job.generation;
  const JobId id = job.id;
  const int64_t generation = job.generation;
  context.state.Add(std::move(job));
  // Now, not when there are slots: what is answered here must still be so after a restart.
  context.Do(StoreGeneration{id, generation, step});
  MoveTo(context, id, JobState::kQueued, absl::StrCat("resumed; goes on at step ", step));
  Schedule(context);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const LaunchFailed& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) {
    changed.failure = absl::StrCat("the worker group could not be started: ", event.message);
    changed.exit = GroupExit{.killed = true};
  });
  const int failures = static_cast<int>(context.state.Find(event.job)->causes.size());
  if (failures >= context.limits.restart_budget) {
    SettleIfOver(context, event.job, true);
    return absl::OkStatus();
  }
  // A full disk or a short memory may pass: all tries at once would be one try.
  context.Do(StartTimer{event.job, event.generation, TimerKind::kSettle, context.limits.relaunch * (failures + 1)});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const GroupExited& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) { changed.exit = event.exit; });
  job = context.state.Find(event.job);
  if (job->AnyConnected()) {
    // What the workers still have to say is on its way.
    context.Do(StartTimer{event.job, job->generation, TimerKind::kSettle, context.limits.settle});
  }
  SettleIfOver(context, event.job, false);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const TimerFired& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  if (event.kind == TimerKind::kSettle) {
    SettleIfOver(context, event.job, true);
    return absl::OkStatus();
  }
  if (job->exit.has_value()) return absl::OkStatus();
  if (event.kind == TimerKind::kWatch) {
    Watch(context, event.job);
    return absl::OkStatus();
  }
  if (event.kind == TimerKind::kKill) {
    context.Do(KillGroup{event.job, event.generation});
    return absl::OkStatus();
  }
  if (job->state != JobState::kStarting) return absl::OkStatus();
  int seen = 0;
  for (const Rank& rank : job->ranks) seen += rank.seen ? 1 : 0;
  FailGroup(context, event.job,
            absl::StrCat("only ", seen, " of ", job->group_size(), " workers connected within ",
                         context.limits.startup.count() / 1000, " s of the launch; see the job's log"),
            std::chrono::milliseconds(0));
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const DrainAsked&) {
  if (context.state.draining()) return absl::OkStatus();
  context.state.set_draining(true);
  std::vector<JobId> active;
  for (const int64_t order : context.state.active()) active.push_back(context.state.jobs().at(order).id);
  for (const JobId& id : active) {
    context.state.Update(id, [](Job& job) { job.draining = true; });
    const Job& job = *context.state.Find(id);
    if (!job.AllSeen()) {
      context.Do(KillGroup{id, job.generation});
      continue;
    }
    const int64_t generation = job.generation;
    StopGroup(context, id, "the coordinator is stopping", true);
    context.Do(StartTimer{id, generation, TimerKind::kKill, context.limits.drain_grace});
  }
  ReportIfDrained(context);
  return absl::OkStatus();
}

}  // namespace

Outcome Apply(State& state, const Event& event, const Limits& limits) {
  Context context{state, limits, {}};
  Outcome outcome;
  outcome.status = std::visit([&](const auto& e) { return Handle(context, e); }, event);
  if (outcome.status.ok()) outcome.effects = std::move(context.effects);
  return outcome;
}

Outcome StartQueued(State& state, const Limits& limits) {
  Context context{state, limits, {}};
  Schedule(context);
  return {absl::OkStatus(), std::move(context.effects)};
}

}  // namespace lockstep::core
