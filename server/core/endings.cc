// SPDX-License-Identifier: Apache-2.0
// How groups start and end, and how jobs go on.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/rules.h"

namespace lockstep::core {
namespace {

constexpr char kNowhereToStart[] = "the checkpoint it starts from cannot be used";

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

// All that a job is for is stored before a worker says that it succeeded; how its process then ends,
// and whether its shim lived to tell, changes nothing.
bool Succeeded(const Job& job) {
  return job.failure.empty() && job.AllSaid(Farewell::kSucceeded) && job.committed == job.end_step();
}

std::string WhyFailed(const Job& job) {
  const GroupExit& exit = *job.exit;
  if (!job.failure.empty()) return exit.killed ? job.failure : WithExit(job.failure, exit);
  if (!job.AllSeen()) {
    return WithLastOutput(
        absl::StrCat("the worker group ended before every worker was connected: ", DescribeExit(exit)), exit);
  }
  if (job.AllSaid(Farewell::kSucceeded)) {
    return absl::StrCat("every worker said that it succeeded, but only ", job.committed, " of ", job.end_step(),
                        " steps are committed");
  }
  return WithLastOutput(absl::StrCat("the worker group ended too early: ", DescribeExit(exit)), exit);
}

std::string WhyRequeued(const Job& job) {
  const int64_t step = job.Resume().step;
  if (job.AllSaid(Farewell::kStopped) && step > 0 && step == job.committed) {
    return absl::StrCat("coordinator stopped at step ", step, "; goes on from the checkpoint at its next start");
  }
  return absl::StrCat("coordinator stopped; goes on from step ", step, " at its next start");
}

// The group, for people: "with 2 workers at step 40".
std::string DescribeStart(const Job& job, const std::string& why) {
  std::string text = why.empty() ? "starting " : absl::StrCat(why, "; starting ");
  absl::StrAppend(&text, job.group_size(), job.group_size() == 1 ? " worker" : " workers");
  if (job.group_size() < job.shape.workers) absl::StrAppend(&text, " of ", job.shape.workers, " asked for");
  if (job.committed > 0) absl::StrAppend(&text, " at step ", job.committed);
  return text;
}

void StartGroup(Context& context, const JobId& id, int workers, const std::string& why) {
  context.state.Update(id, [&](Job& job) {
    const ResumePoint resume = job.Resume();
    ++job.generation;
    job.committed = resume.step;
    // What led to it is done again.
    if (resume.step < job.stopped_at) job.stopped_at = 0;
    job.checkpoints.erase(job.checkpoints.upper_bound(resume.step), job.checkpoints.end());
    // The launcher keeps those of one generation only.
    std::erase_if(job.snapshots, [&](const auto& entry) {
      return entry.first > resume.step || entry.second != resume.snapshot_generation;
    });
    job.resumed_from = resume;
    job.agreed = resume.step;
    job.diverged = false;
    job.ranks.assign(workers, Rank{});
    job.group_id.clear();
    for (Rank& rank : job.ranks) rank.leased_end = resume.step;
    job.digests.clear();
    job.failure.clear();
    job.permanent = false;
    job.resume_unusable = false;
    job.draining = false;
    job.rescaling = false;
    job.exit.reset();
  });
  const Job& job = *context.state.Find(id);
  const int64_t generation = job.generation;
  context.Do(StoreGeneration{id, generation, job.committed});
  JobShape shape = job.shape;
  shape.workers = workers;
  MoveTo(context, id, JobState::kStarting, DescribeStart(job, why));
  context.Do(Launch{id, generation, shape, context.state.Find(id)->resumed_from});
  context.Do(StartTimer{id, generation, TimerKind::kStartup, context.limits.startup});
  context.Do(StartTimer{id, generation, TimerKind::kWatch, context.limits.watch});
}

// The group of an active job is gone: the next one takes its slots and what is free besides.
void StartAgain(Context& context, const JobId& id, const std::string& why) {
  const Job& job = *context.state.Find(id);
  if (job.HasNowhereToStart()) {
    MoveTo(context, id, JobState::kFailed, absl::StrCat(why, "; ", kNowhereToStart));
    return;
  }
  // Free slots are for those who wait, if somebody does.
  const int free = context.state.free_slots();
  const int available = job.group_size() + (context.state.FirstQueued() == nullptr ? free : std::min(0, free));
  if (available < 1) {
    MoveTo(context, id, JobState::kQueued, absl::StrCat(why, "; waits for a slot"));
    return;
  }
  StartGroup(context, id, std::min(job.shape.workers, available), why);
}

// A group ended that should not have.
void Restart(Context& context, const JobId& id) {
  const Job& job = *context.state.Find(id);
  const std::string cause = WhyFailed(job);
  const bool from_snapshot = job.resume_unusable && job.resumed_from.snapshot_generation != 0;
  const bool from_checkpoint = job.resume_unusable && !job.resumed_from.path.empty();
  context.state.Update(id, [&](Job& changed) {
    ++changed.restarts;
    if (from_snapshot) changed.snapshots.clear();
    if (from_checkpoint) changed.checkpoints.erase(changed.resumed_from.step);
    if (from_snapshot || from_checkpoint) {
      // One place less to go on from: there cannot be many of these, and what follows is progress again.
      changed.high_water = changed.Resume().step;
    } else {
      changed.causes.push_back(cause);
    }
  });
  if (from_snapshot) context.Do(VoidSnapshots{id, -1});
  if (from_checkpoint) context.Do(VoidCheckpoint{id, job.resumed_from.step});
  if (static_cast<int>(job.causes.size()) > context.limits.restart_budget) {
    std::string reason = absl::StrCat("no progress through ", context.limits.restart_budget, " restarts");
    for (size_t i = 0; i < job.causes.size(); ++i) {
      absl::StrAppend(&reason, i == 0 ? ": " : "; ", "(", i + 1, ") ", job.causes[i]);
    }
    MoveTo(context, id, JobState::kFailed, reason);
    return;
  }
  StartAgain(context, id, cause);
}

// Running groups that should have another number of workers, and how many. What is free is shared out
// anew each time, oldest job first, so that nobody else gets what was promised to a group that is still
// on its way to another size.
std::vector<std::pair<JobId, int>> SizesToBe(const State& state) {
  std::map<int64_t, int> sizes;
  int missing = -state.free_slots();
  for (const int64_t order : state.active()) {
    const Job& job = state.jobs().at(order);
    sizes[order] = std::min(job.shape.workers, job.group_size());
    missing -= job.group_size() - sizes[order];
  }
  // There are fewer slots than before: the newest give way.
  for (auto it = sizes.rbegin(); it != sizes.rend() && missing > 0; ++it) {
    const int less = std::min(missing, it->second);
    it->second -= less;
    missing -= less;
  }
  int free = state.FirstQueued() == nullptr ? state.free_slots() : 0;
  std::vector<std::pair<JobId, int>> changes;
  for (auto& [order, size] : sizes) {
    const Job& job = state.jobs().at(order);
    if (!job.cancel_requested && size == job.group_size()) {
      const int more = std::max(0, std::min(free, job.shape.workers - size));
      size += more;
      free -= more;
    }
    if (job.state == JobState::kRunning && size != job.group_size()) changes.emplace_back(job.id, size);
  }
  return changes;
}

// Sees that the group stops and starts again with what is then asked for and free.
void Rescale(Context& context, const JobId& id, int workers) {
  const Job& job = *context.state.Find(id);
  if (job.rescaling || job.draining || job.cancel_requested || !job.failure.empty() || job.exit.has_value()) return;
  const int64_t generation = job.generation;
  context.state.Update(id, [](Job& changed) { changed.rescaling = true; });
  StopGroup(context, id, absl::StrCat("the number of workers changes to ", workers), false);
  context.Do(StartTimer{id, generation, TimerKind::kKill, context.limits.scale_grace});
}

// The ticks that a rank may be without progress.
int LimitOf(const Limits& limits, const Rank& rank) {
  const double ticks = 5 * rank.step_seconds * 1000 / static_cast<double>(limits.watch.count());
  const int step = std::max(limits.step_ticks, static_cast<int>(std::ceil(std::min(ticks, 1e6))));
  switch (rank.phase) {
    case Phase::kStartup:
      return std::max(limits.startup_ticks, step);
    case Phase::kCheckpoint:
      return std::max(limits.checkpoint_ticks, step);
    case Phase::kStep:
    case Phase::kLease:
      return step;
  }
  return step;
}

}  // namespace

void MoveTo(Context& context, const JobId& id, JobState to, const std::string& reason) {
  context.state.Update(id, [&](Job& job) {
    job.state = to;
    if (!IsActive(to)) job.ranks.clear();
  });
  const Job& job = *context.state.Find(id);
  context.Do(
      StoreState{id, to, reason, job.generation, job.restarts, to == JobState::kSucceeded && job.stopped_at > 0});
  if (!IsEnded(to)) return;
  context.Do(DropSnapshots{id});
  context.state.Remove(id);
}

void Schedule(Context& context) {
  if (context.state.draining()) return;
  while (const Job* first = context.state.FirstQueued()) {
    const JobId id = first->id;
    if (first->HasNowhereToStart()) {
      MoveTo(context, id, JobState::kFailed, kNowhereToStart);
      continue;
    }
    // A job that was submitted when there were more slots runs with all there are.
    const int workers = std::min(first->shape.workers, context.state.slots());
    if (workers > context.state.free_slots() || workers < 1) break;
    StartGroup(context, id, workers, "");
  }
  for (const auto& [id, workers] : SizesToBe(context.state)) Rescale(context, id, workers);
}

void StopGroup(Context& context, const JobId& id, const std::string& reason, bool checkpoint) {
  const Job& job = *context.state.Find(id);
  for (int rank = 0; rank < job.group_size(); ++rank) {
    if (job.ranks[rank].connected) context.Do(SendStop{id, rank, reason, checkpoint});
  }
}

void MarkFailed(Context& context, const JobId& id, int rank) {
  context.state.Update(id, [&](Job& job) { job.ranks[rank].farewell = Farewell::kFailed; });
  const Job& job = *context.state.Find(id);
  context.Do(StoreRank{id, job.generation, rank, job.ranks[rank]});
}

void Watch(Context& context, const JobId& id) {
  context.state.Update(id, [](Job& job) {
    for (Rank& rank : job.ranks) {
      ++rank.idle_ticks;
      ++rank.quiet_ticks;
    }
  });
  const Job& job = *context.state.Find(id);
  context.Do(StartTimer{id, job.generation, TimerKind::kWatch, context.limits.watch});
  if (!job.failure.empty() || !job.AllSeen()) return;
  // The ranks go in lockstep: one that does something long holds all, and one that hangs too.
  int idle = INT32_MAX, limit = 0, quietest = -1;
  bool waits = false;
  for (int r = 0; r < job.group_size(); ++r) {
    const Rank& rank = job.ranks[r];
    if (rank.farewell != Farewell::kNone) continue;
    waits |= rank.phase == Phase::kLease && rank.connected;
    idle = std::min(idle, rank.idle_ticks);
    limit = std::max(limit, LimitOf(context.limits, rank));
    if (quietest < 0 || rank.quiet_ticks > job.ranks[quietest].quiet_ticks) quietest = r;
  }
  if (quietest < 0) {
    // Everybody has said goodbye, but somebody does not go.
    const auto over_limit = [&](const Rank& rank) { return rank.idle_ticks >= LimitOf(context.limits, rank); };
    if (std::all_of(job.ranks.begin(), job.ranks.end(), over_limit)) context.Do(KillGroup{id, job.generation});
    return;
  }
  const bool silent = job.ranks[quietest].quiet_ticks >= limit;
  if (!silent && (idle < limit || waits)) return;
  const double seconds = limit * static_cast<double>(context.limits.watch.count()) / 1000;
  const bool somebody = job.ranks[quietest].quiet_ticks > 2;
  FailGroup(context, id,
            somebody ? absl::StrCat("rank ", quietest, " (pid ", job.ranks[quietest].pid, " on host ",
                                    job.ranks[quietest].host, ") was not heard of and the group did not get on for ",
                                    seconds, " s")
                     : absl::StrCat("the group did not get on for ", seconds, " s"),
            std::chrono::milliseconds(0));
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
    context.Do(StartTimer{id, generation, TimerKind::kKill, grace});
  }
}

void SettleIfOver(Context& context, const JobId& id, bool force) {
  const Job& job = *context.state.Find(id);
  if (!job.exit.has_value() || (job.AnyConnected() && !force)) return;
  if (Succeeded(job)) {
    MoveTo(context, id, JobState::kSucceeded,
           job.stopped_at > 0 ? absl::StrCat("stopped early after epoch ", job.epochs)
                              : absl::StrCat("all ", job.shape.total_steps, " steps are done"));
  } else if (job.cancel_requested) {
    MoveTo(context, id, JobState::kCancelled,
           job.cancel_reason.empty() ? "cancelled" : absl::StrCat("cancelled: ", job.cancel_reason));
  } else if (job.permanent) {
    MoveTo(context, id, JobState::kFailed, WhyFailed(job));
  } else if (job.draining) {
    MoveTo(context, id, JobState::kQueued, WhyRequeued(job));
  } else if (job.failure.empty() && job.rescaling) {
    StartAgain(context, id, "the number of workers changes");
  } else if (job.failure.empty() && job.AllSaid(Farewell::kStopped)) {
    StartAgain(context, id, "the workers were asked to stop by a signal");
  } else {
    Restart(context, id);
  }
  Schedule(context);
  ReportIfDrained(context);
}

void ReportIfDrained(Context& context) {
  if (context.state.draining() && context.state.active().empty()) context.Do(Drained{});
}

}  // namespace lockstep::core
