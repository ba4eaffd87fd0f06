// SPDX-License-Identifier: Apache-2.0
#include "server/core/apply.h"

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
  job.state = JobState::kQueued;
  const int64_t step = job.ResumePoint().step;
  context.state.Add(std::move(job));
  const Job& added = *context.state.Find(id);
  if (added.cancel_requested) {
    MoveTo(context, id, JobState::kCancelled,
           added.cancel_reason.empty() ? "cancelled" : absl::StrCat("cancelled: ", added.cancel_reason));
  } else if (was_active) {
    MoveTo(context, id, JobState::kQueued,
           step > 0 ? absl::StrCat("the coordinator was restarted; goes on from the checkpoint at step ", step)
                    : std::string("the coordinator was restarted; begins again at step 0"));
  }
  if (const Job* kept = context.state.Find(id); kept != nullptr && kept->shape.workers > context.state.slots()) {
    MoveTo(context, id, JobState::kFailed,
           absl::StrCat("it needs ", kept->shape.workers, " slots but the coordinator was restarted with ",
                        context.state.slots(), "; start lockstepd with more --slots and submit it again"));
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
  job = context.state.Find(event.job);
  for (size_t rank = 0; rank < job->ranks.size(); ++rank) {
    if (job->ranks[rank].connected) context.Do(SendStop{event.job, static_cast<int>(rank), reason, false});
  }
  context.Do(StartTimer{event.job, job->generation, TimerKind::kKill, context.limits.cancel_grace});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const LaunchFailed& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  MoveTo(context, event.job, JobState::kFailed, absl::StrCat("the worker group could not be started: ", event.message));
  Schedule(context);
  ReportIfDrained(context);
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
  if (event.kind == TimerKind::kKill) {
    context.Do(KillGroup{event.job, event.generation});
    return absl::OkStatus();
  }
  if (job->state != JobState::kStarting) return absl::OkStatus();
  int seen = 0;
  for (const Rank& rank : job->ranks) seen += rank.seen ? 1 : 0;
  FailGroup(context, event.job,
            absl::StrCat("only ", seen, " of ", job->shape.workers, " workers connected within ",
                         context.limits.startup.count() / 1000, " s of the launch; see the job's log"),
            std::chrono::milliseconds(0));
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const DrainAsked&) {
  if (context.state.draining()) return absl::OkStatus();
  context.state.set_draining(true);
  std::vector<JobId> active;
  for (const auto& [order, job] : context.state.jobs()) {
    if (IsActive(job.state)) active.push_back(job.id);
  }
  for (const JobId& id : active) {
    context.state.Update(id, [](Job& job) { job.draining = true; });
    const Job& job = *context.state.Find(id);
    if (!job.AllSeen()) {
      context.Do(KillGroup{id, job.generation});
      continue;
    }
    for (size_t rank = 0; rank < job.ranks.size(); ++rank) {
      if (job.ranks[rank].connected) {
        context.Do(SendStop{id, static_cast<int>(rank), "the coordinator is stopping", true});
      }
    }
    context.Do(StartTimer{id, job.generation, TimerKind::kKill, context.limits.drain_grace});
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
