// SPDX-License-Identifier: Apache-2.0
// What workers say.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/core/rules.h"

namespace lockstep::core {
namespace {

// Some hours of work; keeps one request from being the whole job by accident of overflow.
constexpr int64_t kMaxLeaseSteps = int64_t{1} << 24;
// Steps whose digests are not yet complete; past an outage one rank may send many before another does.
constexpr size_t kMaxOpenDigests = 1 << 16;
// An ncclUniqueId has 128 bytes.
constexpr size_t kMaxGroupId = 256;

std::string NameOfRank(const Job& job, int rank) {
  return absl::StrCat("rank ", rank, " (pid ", job.ranks[rank].pid, " on host ", job.ranks[rank].host, ")");
}

// The fence: the job, at this generation, with this rank.
absl::Status CheckFence(const Context& context, const FromWorker& from) {
  const Job* job = context.state.Find(from.job);
  if (job == nullptr)
    return absl::NotFoundError(absl::StrCat("job ", from.job, " is not live: it is unknown or ended"));
  if (job->generation != from.generation || !IsActive(job->state)) {
    return absl::FailedPreconditionError(absl::StrCat("generation ", from.generation, " of job ", from.job,
                                                      " is stale: the current one is ", job->generation,
                                                      IsActive(job->state) ? "" : " and it has ended"));
  }
  if (from.rank < 0 || from.rank >= job->group_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", from.rank, " is not one of the group's ", job->group_size(), " workers"));
  }
  return absl::OkStatus();
}

// The fence, for a rank on its newest stream.
absl::Status CheckSession(const Context& context, const FromWorker& from) {
  if (absl::Status status = CheckFence(context, from); !status.ok()) return status;
  const Rank& rank = context.state.Find(from.job)->ranks[from.rank];
  if (!rank.connected) return absl::FailedPreconditionError(absl::StrCat("rank ", from.rank, " has not said hello"));
  if (rank.session != from.session) {
    return absl::FailedPreconditionError(
        absl::StrCat("stream ", from.session, " of rank ", from.rank, " is stale: the current one is ", rank.session));
  }
  return absl::OkStatus();
}

// For what is stored once: OK and `*repeated` where it is stored already.
absl::Status CheckReport(Context& context, const FromWorker& from, bool* repeated) {
  *repeated = false;
  if (absl::Status status = CheckSession(context, from); !status.ok()) return status;
  const Rank& rank = context.state.Find(from.job)->ranks[from.rank];
  if (from.report <= rank.last_report) {
    if (from.report < 1) return absl::InvalidArgumentError("a report has a number, from 1");
    *repeated = true;
    context.Do(SendAck{from.job, from.generation, from.rank, rank.last_report});
    return absl::OkStatus();
  }
  if (from.report != rank.last_report + 1) {
    return absl::FailedPreconditionError(absl::StrCat("report ", from.report, " of rank ", from.rank, " came after ",
                                                      rank.last_report, ": some are missing"));
  }
  if (rank.farewell != Farewell::kNone) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", from.rank, " has said goodbye"));
  }
  if (context.state.Find(from.job)->diverged) {
    return absl::FailedPreconditionError("the group's parameters differ: nothing that it does counts");
  }
  return absl::OkStatus();
}

// The report is accepted.
void Accept(Context& context, const FromWorker& from) {
  context.state.Update(from.job, [&](Job& job) { job.ranks[from.rank].last_report = from.report; });
  context.Do(StoreRank{from.job, from.generation, from.rank, context.state.Find(from.job)->ranks[from.rank]});
  context.Do(SendAck{from.job, from.generation, from.rank, from.report});
}

// The rank that differs from most others; the last one where there is no majority.
int OddRank(const std::vector<std::string>& digests) {
  std::map<std::string, int> count;
  for (const std::string& digest : digests) ++count[digest];
  int odd = 0;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    if (count[digests[rank]] <= count[digests[odd]]) odd = static_cast<int>(rank);
  }
  return odd;
}

// All ranks' digests of a step are there.
void CompareDigests(Context& context, const JobId& id, int64_t step, const std::vector<std::string>& digests) {
  // Earlier ones that are still open were asked of a coordinator that is gone.
  context.state.Update(id, [&](Job& job) { job.digests.erase(job.digests.begin(), job.digests.upper_bound(step)); });
  const auto same = [&](const std::string& digest) { return digest == digests[0]; };
  if (std::all_of(digests.begin(), digests.end(), same)) {
    context.state.Update(id, [&](Job& job) { job.agreed = std::max(job.agreed, step); });
    return;
  }
  const int odd = OddRank(digests);
  const std::string& right = digests[odd == 0 ? 1 : 0];
  const std::string cause =
      absl::StrCat("the parameters of ", NameOfRank(*context.state.Find(id), odd), " differ after step ", step,
                   ": digest ", digests[odd], ", others have ", right);
  context.Do(StoreWarning{id, WarningKind::kDivergence, cause});
  // What was saved since they were last known to agree may be damaged too.
  const int64_t agreed = context.state.Find(id)->agreed;
  const auto& checkpoints = context.state.Find(id)->checkpoints;
  for (auto it = checkpoints.upper_bound(agreed); it != checkpoints.end(); ++it) {
    context.Do(VoidCheckpoint{id, it->first});
  }
  context.Do(VoidSnapshots{id, agreed});
  context.state.Update(id, [&](Job& job) {
    job.diverged = true;
    job.snapshots.erase(job.snapshots.upper_bound(agreed), job.snapshots.end());
    job.checkpoints.erase(job.checkpoints.upper_bound(agreed), job.checkpoints.end());
  });
  MarkFailed(context, id, odd);
  FailGroup(context, id, cause, std::chrono::milliseconds(0));
}

absl::Status CheckDigests(const Job& job, const std::vector<std::pair<int64_t, std::string>>& digests) {
  for (const auto& [step, digest] : digests) {
    if (digest.empty() || digest.size() > 128) return absl::InvalidArgumentError("a digest has 1 to 128 characters");
    if (step < 0 || step > job.shape.total_steps) {
      return absl::InvalidArgumentError(absl::StrCat("a digest of step ", step, " of ", job.shape.total_steps));
    }
  }
  return absl::OkStatus();
}

void AddDigests(Context& context, const FromWorker& from, const std::vector<std::pair<int64_t, std::string>>& digests) {
  for (const auto& [step, digest] : digests) {
    context.state.Update(from.job, [&, step = step, digest = digest](Job& job) {
      auto& of_step = job.digests[step];
      of_step.resize(job.ranks.size());
      of_step[from.rank] = digest;
      while (job.digests.size() > kMaxOpenDigests) job.digests.erase(job.digests.begin());
    });
    const Job& job = *context.state.Find(from.job);
    const auto found = job.digests.find(step);
    if (found == job.digests.end() || job.diverged) continue;
    const std::vector<std::string> all = found->second;
    if (std::find(all.begin(), all.end(), "") == all.end()) CompareDigests(context, from.job, step, all);
  }
}

}  // namespace

absl::Status Handle(Context& context, const HelloSaid& event) {
  if (absl::Status status = CheckFence(context, event); !status.ok()) return status;
  const Job* job = context.state.Find(event.job);
  if (event.world_size != job->group_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the worker counts ", event.world_size, " workers but the group has ", job->group_size()));
  }
  const Rank& before = job->ranks[event.rank];
  if (event.session <= before.session) {
    return absl::AlreadyExistsError(absl::StrCat("rank ", event.rank, " has already opened stream ", before.session));
  }
  if (!job->failure.empty() || job->exit.has_value() || (!before.seen && (job->cancel_requested || job->draining))) {
    return absl::FailedPreconditionError(absl::StrCat("job ", event.job, " is being stopped"));
  }
  context.state.Update(event.job, [&](Job& changed) {
    Rank& rank = changed.ranks[event.rank];
    rank.connected = true;
    rank.seen = true;
    rank.session = event.session;
    rank.host = event.host;
    rank.pid = event.pid;
    rank.quiet_ticks = 0;
    // It asks again, since an answer may have gone with the old stream.
    rank.wants_group_id = false;
    // What it holds, not what it was sent: a lease may be lost with its stream.
    rank.leased_end = std::max(changed.resumed_from.step, std::min(event.leased_end, changed.shape.total_steps));
  });
  job = context.state.Find(event.job);
  const Rank& rank = job->ranks[event.rank];
  context.Do(StoreWorker{event.job, event.generation, event.rank, event.host, event.pid, true});
  context.Do(StoreRank{event.job, event.generation, event.rank, rank});
  context.Do(SendWelcome{event.job, event.rank, job->shape, job->resumed_from, rank.last_report});
  // Wishes that an earlier stream may not have brought.
  if (job->cancel_requested || job->draining || job->rescaling) {
    context.Do(SendStop{event.job, event.rank, "it was asked before", job->draining && !job->cancel_requested});
  }
  if (job->state == JobState::kStarting && job->AllSeen()) {
    const int workers = job->group_size();
    MoveTo(context, event.job, JobState::kRunning,
           workers == 1 ? std::string("the worker is connected")
                        : absl::StrCat("all ", workers, " workers are connected"));
    // Slots may have become free, or a wish to scale come, while it started.
    Schedule(context);
  }
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const HeartbeatSaid& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  context.state.Update(event.job, [&](Job& job) {
    Rank& rank = job.ranks[event.rank];
    rank.quiet_ticks = 0;
    if (rank.progress != event.progress || rank.phase != event.phase) rank.idle_ticks = 0;
    rank.progress = event.progress;
    rank.phase = event.phase;
    rank.step_seconds = event.step_seconds;
  });
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const LeaseAsked& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  if (event.steps < 1) return absl::InvalidArgumentError("a lease is for at least one step");
  const Job* job = context.state.Find(event.job);
  const int64_t first = job->ranks[event.rank].leased_end;
  const int64_t left = job->shape.total_steps - first;
  const int64_t end = first + std::min({event.steps, left, kMaxLeaseSteps});
  context.state.Update(event.job, [&](Job& changed) { changed.ranks[event.rank].leased_end = end; });
  context.Do(SendLease{event.job, event.generation, event.rank, first, end,
                       ShardsOfRank(event.rank, job->group_size(), job->shape.logical_shards)});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const GroupIdGiven& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 gives the group's id");
  if (event.id.empty() || event.id.size() > kMaxGroupId) {
    return absl::InvalidArgumentError(
        absl::StrCat("a group's id has 1 to ", kMaxGroupId, " bytes, not ", event.id.size()));
  }
  const Job* job = context.state.Find(event.job);
  if (!job->group_id.empty() && job->group_id != event.id) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", event.generation, " has another id already; ranks that meet under it would wait"));
  }
  const int ranks = job->group_size();
  context.state.Update(event.job, [&](Job& changed) { changed.group_id = event.id; });
  for (int rank = 0; rank < ranks; ++rank) {
    if (!context.state.Find(event.job)->ranks[rank].wants_group_id) continue;
    context.state.Update(event.job, [&](Job& changed) { changed.ranks[rank].wants_group_id = false; });
    context.Do(SendGroupId{event.job, event.generation, rank, event.id});
  }
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const GroupIdAsked& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  const std::string& id = context.state.Find(event.job)->group_id;
  if (!id.empty()) {
    context.Do(SendGroupId{event.job, event.generation, event.rank, id});
  } else {
    context.state.Update(event.job, [&](Job& job) { job.ranks[event.rank].wants_group_id = true; });
  }
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const StepsReported& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  const Job* job = context.state.Find(event.job);
  const std::string range = absl::StrCat("steps [", event.first_step, ", ", event.end_step, ")");
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 commits steps");
  if (event.first_step < 0 || event.end_step <= event.first_step || event.end_step > job->end_step()) {
    return absl::InvalidArgumentError(absl::StrCat(range, " are not a range of the job's ", job->end_step(), " steps"));
  }
  if (event.first_step != job->committed) {
    return absl::FailedPreconditionError(
        absl::StrCat(range, " do not follow on the ", job->committed, " steps that are committed"));
  }
  if (event.end_step > job->ranks[0].leased_end) {
    return absl::FailedPreconditionError(
        absl::StrCat(range, " were not leased: the lease ends at ", job->ranks[0].leased_end));
  }
  if (absl::Status status = CheckDigests(*job, event.digests); !status.ok()) return status;
  context.state.Update(event.job, [&](Job& changed) {
    changed.committed = event.end_step;
    // All ranks had a part in it: should one hang before it says so itself, its longer limit no longer holds.
    for (Rank& rank : changed.ranks) {
      if (rank.phase == Phase::kStartup) rank.phase = Phase::kStep;
    }
    if (event.end_step > changed.high_water) changed.causes.clear();
    changed.high_water = std::max(changed.high_water, event.end_step);
    if (!event.snapshot) return;
    changed.snapshots[event.end_step] = event.generation;
    while (changed.snapshots.size() > 2) changed.snapshots.erase(changed.snapshots.begin());
  });
  context.Do(StoreSteps{event.job, event.generation, event.first_step, event.end_step, event.snapshot});
  for (const auto& [step, digest] : event.digests) context.Do(StoreDigest{event.job, step, digest});
  Accept(context, event);
  AddDigests(context, event, event.digests);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const EpochReported& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 reports epochs");
  const Job& job = *context.state.Find(event.job);
  if (event.stopped_early && (event.step != job.committed || event.step < 1 ||
                              event.step % std::max<int64_t>(1, job.shape.steps_per_epoch) != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("training stopped early at step ", event.step, ", but ",
                                                   job.committed, " steps are committed, and an epoch has ",
                                                   job.shape.steps_per_epoch));
  }
  // An epoch that is done again gives the same numbers again.
  if (event.epoch > job.epochs) {
    context.state.Update(event.job, [&](Job& changed) { changed.epochs = event.epoch; });
    context.Do(StoreEpoch{event.job, event.epoch});
  }
  if (event.stopped_early) {
    context.state.Update(event.job, [&](Job& changed) { changed.stopped_at = event.step; });
    context.Do(StoreEarlyStop{event.job, event.step});
  }
  Accept(context, event);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const WarningReported& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  context.Do(StoreWarning{event.job, WarningKind::kOther, ""});
  Accept(context, event);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const CheckpointReported& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 saves checkpoints");
  const Job* job = context.state.Find(event.job);
  if (event.step < 0 || event.step > job->shape.total_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("a checkpoint at step ", event.step, " of a job of ", job->shape.total_steps, " steps"));
  }
  // The same step again is the same checkpoint.
  const auto known = job->checkpoints.find(event.step);
  if (event.final || known == job->checkpoints.end() || known->second != event.path) {
    if (!event.final) {
      context.state.Update(event.job, [&](Job& changed) {
        changed.checkpoints[event.step] = event.path;
        while (changed.checkpoints.size() > 1024) changed.checkpoints.erase(changed.checkpoints.begin());
      });
    }
    context.Do(StoreCheckpoint{event.job, event.generation, event.step, event.path, event.final});
  }
  Accept(context, event);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const DigestReported& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  if (absl::Status status = CheckDigests(*context.state.Find(event.job), event.digests); !status.ok()) return status;
  Accept(context, event);
  AddDigests(context, event, event.digests);
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const GoodbyeSaid& event) {
  bool repeated = false;
  if (absl::Status status = CheckReport(context, event, &repeated); !status.ok() || repeated) return status;
  if (event.farewell == Farewell::kNone) return absl::InvalidArgumentError("a goodbye needs an outcome");
  context.state.Update(event.job, [&](Job& changed) {
    changed.ranks[event.rank].farewell = event.farewell;
    changed.ranks[event.rank].farewell_step = event.step;
    changed.ranks[event.rank].idle_ticks = 0;
    changed.ranks[event.rank].phase = Phase::kStep;
  });
  Accept(context, event);
  const Job& job = *context.state.Find(event.job);
  if (event.farewell == Farewell::kFailed && !job.cancel_requested) {
    const std::string own_name = absl::StrCat("rank ", event.rank, ": ");
    const std::string message(absl::StripPrefix(event.message, own_name));
    const std::string cause = absl::StrCat(
        NameOfRank(job, event.rank), " failed: ", message.empty() ? "it gave no reason; see the job's log" : message);
    if (event.resume_unusable && !job.resume_unusable) {
      context.Do(StoreWarning{event.job, WarningKind::kResumeUnusable, cause});
    }
    context.state.Update(event.job, [&](Job& changed) {
      // It decides what becomes of the job, also where something else went wrong first.
      if (event.permanent && !changed.permanent && !changed.failure.empty()) {
        absl::StrAppend(&changed.failure, "; ", cause);
      }
      changed.permanent |= event.permanent;
      changed.resume_unusable |= event.resume_unusable;
    });
    FailGroup(context, event.job, cause, context.limits.failure_grace);
  }
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const SessionEnded& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  if (event.rank < 0 || event.rank >= job->group_size()) return absl::OkStatus();
  if (!job->ranks[event.rank].connected || job->ranks[event.rank].session != event.session) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) { changed.ranks[event.rank].connected = false; });
  job = context.state.Find(event.job);
  const Rank& rank = job->ranks[event.rank];
  context.Do(StoreWorker{event.job, event.generation, event.rank, rank.host, rank.pid, false});
  // A stream that only broke is opened again; the watchdog looks after one that is not.
  if (rank.farewell == Farewell::kNone && (event.process_gone || !event.refusal.empty())) {
    MarkFailed(context, event.job, event.rank);
    FailGroup(context, event.job,
              event.refusal.empty()
                  ? absl::StrCat(NameOfRank(*job, event.rank), " died: its session ended without goodbye")
                  : absl::StrCat(NameOfRank(*job, event.rank), " was refused: ", event.refusal),
              std::chrono::milliseconds(0));
  }
  SettleIfOver(context, event.job, false);
  return absl::OkStatus();
}

}  // namespace lockstep::core
