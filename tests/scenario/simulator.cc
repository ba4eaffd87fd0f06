// SPDX-License-Identifier: Apache-2.0
#include "tests/scenario/simulator.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "tests/scenario/sim_coordinator.h"

namespace lockstep::sim {
namespace {

// Virtual milliseconds after the last fault in which every job must have ended.
constexpr int64_t kBound = 200'000;

enum Fault {
  kKillRank,
  kPauseRank,
  kHangRank,
  kDeadlock,
  kBreakStream,
  kPartition,
  kKillShim,
  kSignalRank,
  kFailRank,
  kDamageCheckpoint,
  kDamageSnapshot,
  kCrashCoordinator,
  kPauseCoordinator,
  kDrain,
  kFailStore,
  kFailLaunches,
  kCorruptRank,
  kFaults
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : world_(seed), seed_(seed) {}

  Result Run();

 private:
  void MakePlans();
  void MakePlan(int number);
  void MakeFaults();
  void NextFault();
  void DoFault(Fault fault);
  void DoToGroup(Fault fault, SimGroup& group);
  void DoToCoordinator(Fault fault);
  // People.
  void Submit(const core::JobId& id);
  void Cancel(const core::JobId& id);
  void Scale(const core::JobId& id);
  void Resume(const core::JobId& id, int tries);
  bool Done() const;
  void CheckEnd(const JobRow& row);
  void CheckLedger(const JobRow& row);

  World world_;
  const uint64_t seed_;
  Files files_;
  SimStore store_{&world_};
  std::map<core::JobId, Plan> plans_;
  std::optional<SimCoordinator> coordinator_;
  int slots_ = 4;
  std::vector<Fault> faults_;
  int fault_gap_ = 1000;
  int64_t quiet_at_ = 0;
  std::set<core::JobId> submitted_, turned_away_, cancelled_, resuming_;
  std::map<core::JobId, std::optional<int>> scaled_;
  int64_t asks_ = 0;
  Counts counts_;
};

void Simulation::MakePlan(int number) {
  Plan plan;
  core::JobShape& shape = plan.submit.shape;
  plan.submit.job = absl::StrCat("j", number);
  shape.logical_shards = 1 << world_.Between(0, 2);
  shape.workers = world_.Between(1, std::min(shape.logical_shards, slots_));
  shape.total_steps = world_.Between(10, 80);
  shape.steps_per_epoch = world_.Between(5, static_cast<int>(shape.total_steps));
  plan.seed = Mix(seed_, number);
  plan.step_ms = world_.Between(5, 60);
  plan.load_ms = world_.Between(20, 400);
  plan.commit_every = world_.Between(1, 8);
  plan.digest_every = world_.Between(1, 8);
  plan.checkpoint_every = world_.Between(4, 40);
  plan.lease_steps = world_.Between(2, 60);
  plan.close_ms = world_.Chance(500) ? 2000 : 60'000;
  uint64_t bits = Mix(plan.seed, 7);
  for (int64_t step = 0; step <= shape.total_steps; ++step) {
    plan.bits.push_back(bits);
    bits = Mix(bits, plan.seed + static_cast<uint64_t>(step));
  }
  if (world_.Chance(150)) {
    shape.first_step = world_.Between(1, static_cast<int>(shape.total_steps) - 1);
    plan.submit.start_checkpoint = absl::StrCat("start", number);
    files_.checkpoints[plan.submit.start_checkpoint] = {shape.first_step, plan.bits[shape.first_step], false};
  }
  const int64_t after = shape.first_step / shape.steps_per_epoch + 1;
  const int64_t epochs = (shape.total_steps - 1) / shape.steps_per_epoch;
  if (after <= epochs && world_.Chance(300)) {
    plan.stop_step = world_.Between(static_cast<int>(after), static_cast<int>(epochs)) * shape.steps_per_epoch;
    plan.bits.resize(static_cast<size_t>(plan.stop_step) + 1);
  }
  plans_[plan.submit.job] = std::move(plan);
}

void Simulation::MakePlans() {
  slots_ = world_.Between(1, 6);
  const int jobs = world_.Between(1, 3);
  for (int number = 0; number < jobs; ++number) MakePlan(number);
  coordinator_.emplace(&world_, &store_, &files_, &plans_, slots_);
  quiet_at_ = world_.Between(1000, 9000);
  MakeFaults();
  for (const auto& [id, plan] : plans_) {
    const int64_t at = world_.Between(0, 2000);
    world_.After(at, [this, id = id] { Submit(id); });
    const bool silent_corruption = std::find(faults_.begin(), faults_.end(), kCorruptRank) != faults_.end();
    if (silent_corruption) continue;
    if (world_.Chance(100)) world_.After(at + world_.Between(1, 4000), [this, id = id] { Cancel(id); });
    for (int i = world_.Chance(400) ? world_.Between(1, 3) : 0; i > 0; --i) {
      world_.After(at + world_.Between(1, 4000), [this, id = id] { Scale(id); });
    }
    if (world_.Chance(200)) world_.After(at + world_.Between(500, 5000), [this, id = id] { Resume(id, 20); });
  }
}

// Each history has its own mixture of faults, from none to all.
void Simulation::MakeFaults() {
  if (world_.Chance(60)) {
    // Whoever dies with a digest that nobody else has seen takes the proof along, so these come alone.
    faults_ = {kCorruptRank, kCorruptRank, kBreakStream};
  } else if (!world_.Chance(60)) {
    const int share = world_.Between(50, 700);
    for (int fault = 0; fault < kCorruptRank; ++fault) {
      if (world_.Chance(share)) faults_.push_back(static_cast<Fault>(fault));
    }
  }
  fault_gap_ = world_.Between(40, 900);
  if (!faults_.empty()) NextFault();
}

void Simulation::NextFault() {
  world_.After(world_.Between(fault_gap_ / 2, fault_gap_ * 2), [this] {
    if (world_.now() >= quiet_at_) return;
    DoFault(faults_[world_.Below(static_cast<int>(faults_.size()))]);
    NextFault();
  });
}

void Simulation::DoFault(Fault fault) {
  if (fault == kCrashCoordinator || fault == kPauseCoordinator || fault == kDrain || fault == kFailStore ||
      fault == kFailLaunches) {
    return DoToCoordinator(fault);
  }
  if (fault == kDamageCheckpoint) {
    for (auto& [path, state] : files_.checkpoints) {
      if (!world_.Chance(400) || absl::EndsWith(path, "final")) continue;
      state.damaged = true;
      ++counts_.damaged_files;
    }
    return;
  }
  if (fault == kDamageSnapshot) {
    for (auto& [key, slots] : files_.snapshots) {
      for (SavedState& slot : slots) slot.damaged |= world_.Chance(500);
      ++counts_.damaged_files;
    }
    return;
  }
  std::vector<SimGroup*> alive;
  for (const auto& group : coordinator_->groups()) {
    if (!group->over()) alive.push_back(group.get());
  }
  if (!alive.empty()) DoToGroup(fault, *alive[world_.Below(static_cast<int>(alive.size()))]);
}

void Simulation::DoToGroup(Fault fault, SimGroup& group) {
  const int rank = world_.Below(group.size());
  world_.Note("fault", group.job(), group.generation(), rank, fault);
  switch (fault) {
    case kKillRank:
      ++counts_.rank_kills;
      return group.KillRank(rank);
    case kPauseRank:
      ++counts_.hangs;
      return group.Hang(rank, world_.Between(50, 2500));
    case kHangRank:
      ++counts_.hangs;
      return group.Hang(rank, 1'000'000);
    case kDeadlock:
      ++counts_.hangs;
      return group.Deadlock();
    case kBreakStream:
      ++counts_.broken_streams;
      return group.Break(rank, world_.Chance(600));
    case kPartition:
      ++counts_.broken_streams;
      return group.Partition(rank, world_.Between(200, 8000));
    case kKillShim:
      ++counts_.shim_kills;
      return group.KillShim();
    case kSignalRank:
      ++counts_.signals;
      return group.Terminate(rank);
    case kFailRank:
      return group.FailRank(rank, world_.Chance(100));
    case kCorruptRank:
      counts_.corruptions += group.Corrupt(rank);
      return;
    default:
      return;
  }
}

void Simulation::DoToCoordinator(Fault fault) {
  if (!coordinator_->up()) return;
  world_.Note("fault", "", coordinator_->incarnation(), 0, fault);
  const int64_t now = world_.now();
  switch (fault) {
    case kCrashCoordinator:
      ++counts_.coordinator_deaths;
      coordinator_->set_restart_delay(world_.Chance(700) ? world_.Between(20, 300) : world_.Between(300, 6000));
      // Somebody may give or take slots while it is away.
      if (world_.Chance(300)) coordinator_->set_slots(world_.Between(1, slots_));
      if (world_.Chance(700)) return coordinator_->CrashInNextRound();
      return coordinator_->Crash();
    case kPauseCoordinator:
      return coordinator_->PauseUntil(now + world_.Between(100, 1500));
    case kDrain:
      ++counts_.drains;
      coordinator_->set_restart_delay(world_.Between(100, 1000));
      return coordinator_->Ask(core::DrainAsked{}, nullptr);
    case kFailStore:
      return coordinator_->FailStoreUntil(now + world_.Between(50, 3000));
    case kFailLaunches:
      return coordinator_->FailLaunchesUntil(now + world_.Between(50, 800));
    default:
      return;
  }
}

// A client that tries until it is answered or sees its job.
void Simulation::Submit(const core::JobId& id) {
  if (submitted_.contains(id) || turned_away_.contains(id)) return;
  coordinator_->Ask(plans_.at(id).submit, [this, id](const absl::Status& status) {
    if (status.ok()) {
      submitted_.insert(id);
      if (store_.Find(id) == nullptr) world_.Fail(absl::StrCat(id, " was accepted but is not stored"));
    }
    if (status.code() == absl::StatusCode::kFailedPrecondition) turned_away_.insert(id);
  });
  world_.After(700, [this, id] { Submit(id); });
}

void Simulation::Cancel(const core::JobId& id) {
  coordinator_->Ask(core::CancelAsked{id, "enough"}, [this, id](const absl::Status& status) {
    if (status.ok()) cancelled_.insert(id);
  });
}

void Simulation::Scale(const core::JobId& id) {
  const int workers = world_.Between(1, plans_.at(id).submit.shape.logical_shards);
  scaled_[id] = std::nullopt;
  coordinator_->Ask(core::ScaleAsked{id, workers}, [this, id, workers, ask = ++asks_](const absl::Status& status) {
    if (!status.ok()) return;
    if (ask == asks_) scaled_[id] = workers;
    ++counts_.scales;
  });
}

// Once the job has ended: from its newest place, or from any.
void Simulation::Resume(const core::JobId& id, int tries) {
  resuming_.erase(id);
  const JobRow* row = store_.Find(id);
  if (tries == 0 || turned_away_.contains(id)) return;
  resuming_.insert(id);
  if (row == nullptr || !core::IsEnded(row->state)) {
    return world_.After(400, [this, id, tries] { Resume(id, tries - 1); });
  }
  resuming_.erase(id);
  std::vector<int64_t> steps = {row->shape.first_step};
  for (const CheckpointRow& checkpoint : row->checkpoints) {
    if (!checkpoint.voided && !checkpoint.final) steps.push_back(checkpoint.step);
  }
  core::ResumeAsked asked;
  asked.job.id = id;
  if (row->state == core::JobState::kSucceeded || world_.Chance(500)) {
    asked.from_step = steps[world_.Below(static_cast<int>(steps.size()))];
  }
  // The answer may be lost.
  cancelled_.erase(id);
  coordinator_->Ask(asked, [this, id, asked](const absl::Status& status) {
    if (!status.ok()) return;
    ++counts_.resumes;
    if (asked.from_step.has_value() && store_.Find(id)->Committed() > *asked.from_step) {
      world_.Fail(absl::StrCat(id, " was to go on from ", *asked.from_step, " but the ledger does not say so"));
    }
  });
}

bool Simulation::Done() const {
  if (world_.now() < quiet_at_ || !resuming_.empty()) return false;
  for (const auto& [id, plan] : plans_) {
    if (turned_away_.contains(id)) continue;
    const JobRow* row = store_.Find(id);
    if (!submitted_.contains(id) || row == nullptr || !core::IsEnded(row->state)) return false;
  }
  return true;
}

void Simulation::CheckLedger(const JobRow& row) {
  std::vector<LedgerRow> rows;
  for (const LedgerRow& entry : row.ledger) {
    if (!entry.voided) rows.push_back(entry);
    counts_.voided_rows += entry.voided;
  }
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first_step < b.first_step; });
  int64_t end = row.shape.first_step;
  for (const LedgerRow& entry : rows) {
    if (entry.first_step != end) world_.Fail(absl::StrCat(row.id, ": the ledger has a gap or a double at ", end));
    end = entry.end_step;
  }
  if (row.state == core::JobState::kSucceeded && end != plans_.at(row.id).end_step()) {
    world_.Fail(absl::StrCat(row.id, " has succeeded with ", end, " steps"));
  }
}

void Simulation::CheckEnd(const JobRow& row) {
  const Plan& plan = plans_.at(row.id);
  CheckLedger(row);
  ++counts_.jobs;
  counts_.divergences += row.divergences;
  if (row.divergences > 0 && counts_.corruptions == 0) world_.Fail(absl::StrCat(row.id, ": a step gave other bits"));
  const auto scaled = scaled_.find(row.id);
  if (scaled != scaled_.end() && scaled->second.value_or(row.shape.workers) != row.shape.workers) {
    world_.Fail(absl::StrCat(row.id, " was scaled and it was forgotten"));
  }
  if (cancelled_.contains(row.id) && row.state == core::JobState::kFailed) {
    world_.Fail(absl::StrCat(row.id, " was cancelled but failed: ", row.reason));
  }
  if (row.state == core::JobState::kCancelled) {
    ++counts_.cancelled;
    return;
  }
  if (row.state == core::JobState::kFailed) {
    ++counts_.failed;
    const bool known = absl::StrContains(row.reason, "no progress through 3 restarts") ||
                       absl::StrContains(row.reason, "out of luck") || absl::StrContains(row.reason, "cannot be used");
    if (!known || faults_.empty()) world_.Fail(absl::StrCat(row.id, " failed: ", row.reason));
    return;
  }
  ++counts_.succeeded;
  counts_.stopped_early += plan.stop_step > 0;
  if (row.epochs != plan.end_step() / row.shape.steps_per_epoch) {
    world_.Fail(absl::StrCat(row.id, " has succeeded with ", row.epochs, " epochs"));
  }
  for (const auto& [step, digest] : row.digests) {
    if (digest != DigestOf(plan.bits[step])) world_.Fail(absl::StrCat(row.id, ": other bits after step ", step));
  }
  const CheckpointRow* final = nullptr;
  for (const CheckpointRow& checkpoint : row.checkpoints) {
    if (checkpoint.final && !checkpoint.voided) final = &checkpoint;
  }
  if (final == nullptr || files_.checkpoints[final->path].bits != plan.bits.back()) {
    world_.Fail(absl::StrCat(row.id, ": the trained model is not that of an undisturbed run"));
  }
}

Result Simulation::Run() {
  MakePlans();
  coordinator_->Start();
  int64_t steps = 0;
  while (world_.Step()) {
    if (++steps % 16 != 0) continue;
    if (Done()) break;
    if (world_.now() < quiet_at_ + kBound) continue;
    for (const auto& [id, row] : store_.rows()) {
      if (!core::IsEnded(row.state))
        world_.Fail(absl::StrCat(id, " is stuck: ", std::string(core::JobStateName(row.state))));
    }
    world_.Fail("stuck");
  }
  counts_.launches = coordinator_->launches();
  counts_.rollbacks = coordinator_->rollbacks();
  counts_.events = static_cast<int64_t>(world_.events());
  if (!world_.failed() && !Done()) world_.Fail("everything stands still");
  for (const auto& [id, row] : store_.rows()) {
    if (!world_.failed()) CheckEnd(row);
  }
  return {world_.failure(), world_.hash(), world_.failed() ? world_.Tail() : "", counts_};
}

}  // namespace

Result Simulate(uint64_t seed) { return Simulation(seed).Run(); }

void Counts::Add(const Counts& other) {
  jobs += other.jobs;
  succeeded += other.succeeded;
  failed += other.failed;
  cancelled += other.cancelled;
  stopped_early += other.stopped_early;
  launches += other.launches;
  coordinator_deaths += other.coordinator_deaths;
  rank_kills += other.rank_kills;
  hangs += other.hangs;
  broken_streams += other.broken_streams;
  shim_kills += other.shim_kills;
  rollbacks += other.rollbacks;
  drains += other.drains;
  signals += other.signals;
  corruptions += other.corruptions;
  divergences += other.divergences;
  damaged_files += other.damaged_files;
  scales += other.scales;
  resumes += other.resumes;
  voided_rows += other.voided_rows;
  events += other.events;
}

std::string Counts::ToString() const {
  return absl::StrCat("jobs ", jobs, ": succeeded ", succeeded, ", failed ", failed, ", cancelled ", cancelled,
                      ", stopped early ", stopped_early, "; launches ", launches, ", coordinator deaths ",
                      coordinator_deaths, ", rank kills ", rank_kills, ", hangs ", hangs, ", broken streams ",
                      broken_streams, ", shim kills ", shim_kills, ", failed transactions ", rollbacks, ", drains ",
                      drains, ", signals ", signals, ", corruptions ", corruptions, ", divergences ", divergences,
                      ", damaged files ", damaged_files, ", scales ", scales, ", resumes ", resumes, ", voided rows ",
                      voided_rows, ", events ", events);
}

}  // namespace lockstep::sim
