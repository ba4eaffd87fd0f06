// SPDX-License-Identifier: Apache-2.0
// How groups start and how jobs end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/rules.h"

namespace lockstep::core {
namespace {

// What the group's end says beyond the cause that is already known.
std::string WithExit(const std::string& cause, const GroupExit& exit) {
  std::string text = cause;
  if (!exit.reported || exit.signal != 0 || exit.exit_code != 0) absl::StrAppend(&text, "; ", DescribeExit(exit));
  return text;
}

std::string WithLastOutput(std::string text, const GroupExit& exit) {
  if (!exit.last_output.empty()) absl::StrAppend(&text, "; its last words: ", exit.last_output);
  return text;
}

bool Succeeded(const Job& job) {
  return job.failure.empty() && job.AllSaid(Farewell::kSucceeded) && job.exit->reported && job.exit->signal == 0 &&
         job.exit->exit_code == 0 && job.committed == job.shape.total_steps;
}

std::string WhyFailed(const Job& job) {
  const GroupExit& exit = *job.exit;
  if (!job.failure.empty()) return WithExit(job.failure, exit);
  if (!job.AllSeen()) {
    return WithLastOutput(
        absl::StrCat("the worker group ended before every worker was connected: ", DescribeExit(exit)), exit);
  }
  if (job.AllSaid(Farewell::kSucceeded)) {
    if (job.committed != job.shape.total_steps) {
      return absl::StrCat("every worker said that it succeeded, but only ", job.committed, " of ",
                          job.shape.total_steps, " steps are committed");
    }
    return WithLastOutput(absl::StrCat("every worker said that it succeeded, but ", DescribeExit(exit)), exit);
  }
  if (job.AllSaid(Farewell::kStopped)) return "every worker stopped without being asked to";
  return WithLastOutput(absl::StrCat("the worker group ended too early: ", DescribeExit(exit)), exit);
}

std::string WhyRequeued(const Job& job) {
  const int64_t step = job.ResumePoint().step;
  if (job.AllSaid(Farewell::kStopped) && step > 0 && step == job.committed) {
    return absl::StrCat("coordinator stopped at step ", step, "; goes on from the checkpoint at its next start");
  }
  return absl::StrCat("coordinator stopped; goes on from step ", step, " at its next start");
}

void StartGroup(Context& context, const JobId& id) {
  context.state.Update(id, [](Job& job) {
    const Checkpoint resume = job.ResumePoint();
    ++job.generation;
    job.committed = resume.step;
    job.checkpoints.erase(job.checkpoints.upper_bound(resume.step), job.checkpoints.end());
    job.ranks.assign(job.shape.workers, Rank{});
    for (Rank& rank : job.ranks) rank.leased_end = resume.step;
    job.digests.clear();
    job.failure.clear();
    job.draining = false;
    job.exit.reset();
  });
  const Job& job = *context.state.Find(id);
  context.Do(StoreGeneration{id, job.generation, job.committed});
  MoveTo(context, id, JobState::kStarting,
         absl::StrCat("starting ", job.shape.workers, job.shape.workers == 1 ? " worker" : " workers",
                      job.committed > 0 ? absl::StrCat(" at step ", job.committed) : ""));
  context.Do(Launch{id, job.generation, job.shape});
  context.Do(StartTimer{id, job.generation, TimerKind::kStartup, context.limits.startup});
}

}  // namespace

void MoveTo(Context& context, const JobId& id, JobState to, const std::string& reason) {
  context.state.Update(id, [&](Job& job) { job.state = to; });
  context.Do(StoreState{id, to, reason, context.state.Find(id)->generation});
  if (IsEnded(to)) context.state.Remove(id);
}

void Schedule(Context& context) {
  if (context.state.draining()) return;
  while (const Job* first = context.state.FirstQueued()) {
    if (first->shape.workers > context.state.free_slots()) return;
    StartGroup(context, JobId(first->id));
  }
}

void FailGroup(Context& context, const JobId& id, const std::string& cause, std::chrono::milliseconds grace) {
  const Job& job = *context.state.Find(id);
  if (!job.failure.empty()) return;
  const int64_t generation = job.generation;
  const bool over = job.exit.has_value();
  context.state.Update(id, [&](Job& changed) { changed.failure = cause; });
  if (over) return;
  if (grace.count() == 0) {
    context.Do(KillGroup{id, generation});
  } else {
    // mpirun notices a dead rank by itself, and its exit code then tells how the rank died.
    context.Do(StartTimer{id, generation, TimerKind::kKill, grace});
  }
}

void SettleIfOver(Context& context, const JobId& id, bool force) {
  const Job& job = *context.state.Find(id);
  if (!job.exit.has_value() || (job.AnyConnected() && !force)) return;
  if (Succeeded(job)) {
    MoveTo(context, id, JobState::kSucceeded, absl::StrCat("all ", job.shape.total_steps, " steps are done"));
  } else if (job.cancel_requested) {
    MoveTo(context, id, JobState::kCancelled,
           job.cancel_reason.empty() ? "cancelled" : absl::StrCat("cancelled: ", job.cancel_reason));
  } else if (job.draining && job.failure.empty()) {
    MoveTo(context, id, JobState::kQueued, WhyRequeued(job));
  } else {
    MoveTo(context, id, JobState::kFailed, WhyFailed(job));
  }
  Schedule(context);
  ReportIfDrained(context);
}

void ReportIfDrained(Context& context) {
  if (context.state.draining() && context.state.active() == 0) context.Do(Drained{});
}

}  // namespace lockstep::core
