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

// More than hours of work; keeps one request from being the whole job by accident of overflow.
constexpr int64_t kMaxLeaseSteps = int64_t{1} << 20;
// Steps whose digests are not yet complete; a rank this far ahead of another is a bug.
constexpr size_t kMaxOpenDigests = 1024;

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
  if (from.rank < 0 || from.rank >= job->shape.workers) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", from.rank, " is not one of the job's ", job->shape.workers, " workers"));
  }
  return absl::OkStatus();
}

// The fence, for a rank that has said Hello and not yet Goodbye.
absl::Status CheckSession(const Context& context, const FromWorker& from) {
  if (absl::Status status = CheckFence(context, from); !status.ok()) return status;
  const Rank& rank = context.state.Find(from.job)->ranks[from.rank];
  if (!rank.connected) return absl::FailedPreconditionError(absl::StrCat("rank ", from.rank, " has not said hello"));
  if (rank.farewell != Farewell::kNone) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", from.rank, " has said goodbye"));
  }
  return absl::OkStatus();
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

}  // namespace

absl::Status Handle(Context& context, const HelloSaid& event) {
  if (absl::Status status = CheckFence(context, event); !status.ok()) return status;
  const Job* job = context.state.Find(event.job);
  if (event.world_size != job->shape.workers) {
    return absl::InvalidArgumentError(
        absl::StrCat("the worker counts ", event.world_size, " workers but the job has ", job->shape.workers));
  }
  if (job->ranks[event.rank].seen) {
    return absl::AlreadyExistsError(absl::StrCat("rank ", event.rank, " has already said hello"));
  }
  if (job->cancel_requested || job->draining || !job->failure.empty() || job->exit.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("job ", event.job, " is being stopped"));
  }
  context.state.Update(event.job, [&](Job& changed) {
    Rank& rank = changed.ranks[event.rank];
    rank.connected = true;
    rank.seen = true;
    rank.host = event.host;
    rank.pid = event.pid;
  });
  job = context.state.Find(event.job);
  context.Do(StoreWorker{event.job, event.generation, event.rank, event.host, event.pid, true});
  context.Do(SendWelcome{event.job, event.rank, job->shape, job->ResumePoint()});
  if (job->state == JobState::kStarting && job->AllSeen()) {
    const int workers = job->shape.workers;
    MoveTo(context, event.job, JobState::kRunning,
           workers == 1 ? std::string("the worker is connected")
                        : absl::StrCat("all ", workers, " workers are connected"));
  }
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
                       ShardsOfRank(event.rank, job->shape.workers, job->shape.logical_shards)});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const StepsReported& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  const Job* job = context.state.Find(event.job);
  const std::string range = absl::StrCat("steps [", event.first_step, ", ", event.end_step, ")");
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 commits steps");
  if (event.first_step < 0 || event.end_step <= event.first_step || event.end_step > job->shape.total_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat(range, " are not a range of the job's ", job->shape.total_steps, " steps"));
  }
  if (event.end_step <= job->committed) return absl::OkStatus();  // A repeat: already in the ledger.
  if (event.first_step != job->committed) {
    return absl::FailedPreconditionError(
        absl::StrCat(range, " do not follow on the ", job->committed, " steps that are committed"));
  }
  if (event.end_step > job->ranks[0].leased_end) {
    return absl::FailedPreconditionError(
        absl::StrCat(range, " were not leased: the lease ends at ", job->ranks[0].leased_end));
  }
  context.state.Update(event.job, [&](Job& changed) { changed.committed = event.end_step; });
  context.Do(StoreSteps{event.job, event.generation, event.first_step, event.end_step});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const EpochReported& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  if (event.rank != 0) return absl::InvalidArgumentError("only rank 0 reports epochs");
  context.Do(StoreEpoch{event.job});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const CheckpointReported& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  const Job* job = context.state.Find(event.job);
  if (event.step < 0 || event.step > job->shape.total_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("a checkpoint at step ", event.step, " of a job of ", job->shape.total_steps, " steps"));
  }
  if (!event.final) {
    // The same step again is the same checkpoint, told twice.
    const auto known = job->checkpoints.find(event.step);
    if (known != job->checkpoints.end() && known->second == event.path) return absl::OkStatus();
    context.state.Update(event.job, [&](Job& changed) {
      changed.checkpoints[event.step] = event.path;
      while (changed.checkpoints.size() > 64) changed.checkpoints.erase(changed.checkpoints.begin());
    });
  }
  context.Do(StoreCheckpoint{event.job, event.generation, event.step, event.path, event.final});
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const DigestReported& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  const Job* job = context.state.Find(event.job);
  if (event.digest.empty() || event.digest.size() > 128) {
    return absl::InvalidArgumentError("a digest has 1 to 128 characters");
  }
  const bool is_new = !job->digests.contains(event.step);
  if (is_new && job->digests.size() >= kMaxOpenDigests) {
    return absl::FailedPreconditionError("too many digests are waiting for other ranks");
  }
  context.state.Update(event.job, [&](Job& changed) {
    auto& digests = changed.digests[event.step];
    digests.resize(changed.shape.workers);
    digests[event.rank] = event.digest;
  });
  job = context.state.Find(event.job);
  const auto digests = job->digests.at(event.step);
  if (std::find(digests.begin(), digests.end(), "") != digests.end()) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) { changed.digests.erase(event.step); });
  if (std::all_of(digests.begin(), digests.end(), [&](const std::string& d) { return d == digests[0]; })) {
    return absl::OkStatus();
  }
  const int odd = OddRank(digests);
  const std::string& right = digests[odd == 0 ? 1 : 0];
  FailGroup(context, event.job,
            absl::StrCat("the parameters of ", NameOfRank(*context.state.Find(event.job), odd), " differ after step ",
                         event.step, ": digest ", digests[odd], ", others have ", right),
            std::chrono::milliseconds(0));
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const GoodbyeSaid& event) {
  if (absl::Status status = CheckSession(context, event); !status.ok()) return status;
  if (event.farewell == Farewell::kNone) return absl::InvalidArgumentError("a goodbye needs an outcome");
  context.state.Update(event.job, [&](Job& changed) {
    changed.ranks[event.rank].farewell = event.farewell;
    changed.ranks[event.rank].farewell_step = event.step;
  });
  const Job& job = *context.state.Find(event.job);
  if (event.farewell == Farewell::kFailed && !job.cancel_requested) {
    const std::string own_name = absl::StrCat("rank ", event.rank, ": ");
    const std::string message(absl::StripPrefix(event.message, own_name));
    FailGroup(context, event.job,
              absl::StrCat(NameOfRank(job, event.rank),
                           " failed: ", message.empty() ? "it gave no reason; see the job's log" : message),
              context.limits.failure_grace);
  }
  return absl::OkStatus();
}

absl::Status Handle(Context& context, const SessionEnded& event) {
  const Job* job = context.state.Find(event.job);
  if (job == nullptr || job->generation != event.generation || !IsActive(job->state)) return absl::OkStatus();
  if (event.rank < 0 || event.rank >= job->shape.workers || !job->ranks[event.rank].connected) return absl::OkStatus();
  context.state.Update(event.job, [&](Job& changed) { changed.ranks[event.rank].connected = false; });
  job = context.state.Find(event.job);
  const Rank& rank = job->ranks[event.rank];
  context.Do(StoreWorker{event.job, event.generation, event.rank, rank.host, rank.pid, false});
  if (rank.farewell == Farewell::kNone && !job->cancel_requested && !job->draining) {
    FailGroup(context, event.job,
              event.refusal.empty()
                  ? absl::StrCat(NameOfRank(*job, event.rank), " died: its session ended without goodbye")
                  : absl::StrCat(NameOfRank(*job, event.rank), " was refused: ", event.refusal),
              context.limits.failure_grace);
  }
  SettleIfOver(context, event.job, false);
  return absl::OkStatus();
}

}  // namespace lockstep::core
