// SPDX-License-Identifier: Apache-2.0
#include "tests/scenario/sim_store.h"

#include <algorithm>
#include <type_traits>

namespace lockstep::sim {

int64_t JobRow::Committed() const {
  int64_t end = shape.first_step;
  for (const LedgerRow& row : ledger) {
    if (!row.voided) end = std::max(end, row.end_step);
  }
  return end;
}

bool SimStore::IsSeen(const core::Effect& effect) {
  return std::holds_alternative<core::StoreState>(effect) || std::holds_alternative<core::StoreSteps>(effect) ||
         std::holds_alternative<core::StoreEpoch>(effect) || std::holds_alternative<core::StoreCheckpoint>(effect) ||
         std::holds_alternative<core::StoreWorker>(effect) || std::holds_alternative<core::StoreWarning>(effect);
}

bool SimStore::IsStored(const core::Effect& effect) {
  return IsSeen(effect) || std::holds_alternative<core::StoreGeneration>(effect) ||
         std::holds_alternative<core::StoreDigest>(effect) || std::holds_alternative<core::StoreRank>(effect) ||
         std::holds_alternative<core::VoidCheckpoint>(effect) || std::holds_alternative<core::VoidSnapshots>(effect) ||
         std::holds_alternative<core::StoreScale>(effect) || std::holds_alternative<core::StoreCancelRequest>(effect);
}

const JobRow* SimStore::Find(const core::JobId& id) const {
  const auto it = rows_.find(id);
  return it == rows_.end() ? nullptr : &it->second;
}

void SimStore::Write(const std::vector<Change>& changes, const std::vector<Update>& updates) {
  for (const Change& change : changes) {
    if (change.insert.has_value()) Insert(*change.insert);
    std::visit(
        [&](const auto& effect) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(effect)>, core::Drained>) {
            const auto it = rows_.find(effect.job);
            if (it == rows_.end()) return world_->Fail("something is stored of a job that is not");
            JobRow& row = it->second;
            if (change.sequence != 0 && change.sequence != ++row.last_sequence) {
              return world_->Fail(absl::StrCat("event ", change.sequence, " of ", row.id, " is out of sequence"));
            }
            Put(row, effect);
          }
        },
        change.effect);
  }
  for (const Update& update : updates) {
    JobRow& row = rows_.at(update.id);
    row.shape.workers = update.workers;
    row.group_workers = update.group_workers;
    row.epochs = update.epochs;
    row.high_water = update.high_water;
    row.restarts = update.restarts;
    row.stopped_at = update.stopped_at;
    row.cancel_reason = update.cancel_reason;
  }
}

void SimStore::Insert(const core::JobSubmitted& submitted) {
  JobRow& row = rows_[submitted.job];
  if (row.order != 0) world_->Fail(absl::StrCat(submitted.job, " is stored twice"));
  row.id = submitted.job;
  row.order = submitted.order;
  row.shape = submitted.shape;
  row.high_water = submitted.shape.first_step;
  if (!submitted.start_checkpoint.empty()) {
    row.checkpoints.push_back({0, submitted.shape.first_step, submitted.start_checkpoint});
  }
}

void SimStore::Put(JobRow& row, const core::StoreState& effect) {
  // A job that is resumed is not being cancelled any more.
  if (core::IsEnded(row.state)) row.cancel_requested = false;
  if (core::IsEnded(row.state) && effect.state != core::JobState::kQueued) {
    world_->Fail(absl::StrCat(row.id, " ended and went on by itself"));
  }
  if (effect.generation != row.generation) world_->Fail(absl::StrCat(row.id, ": a state of another generation"));
  row.state = effect.state;
  row.reason = effect.reason;
}

void SimStore::Put(JobRow& row, const core::StoreGeneration& effect) {
  if (effect.generation <= row.generation) world_->Fail(absl::StrCat(row.id, ": a generation that is not new"));
  for (const auto& [id, other] : rows_) {
    if (row.state == core::JobState::kQueued && other.state == core::JobState::kQueued && other.order < row.order) {
      world_->Fail(absl::StrCat(row.id, " overtook ", id));
    }
  }
  row.generation = effect.generation;
  std::vector<LedgerRow> rest;
  for (LedgerRow& entry : row.ledger) {
    if (entry.voided || entry.end_step <= effect.first_step) continue;
    if (entry.first_step >= effect.first_step) {
      entry.voided = true;
      continue;
    }
    rest.push_back({entry.generation, effect.first_step, entry.end_step, false, true});
    entry.end_step = effect.first_step;
    entry.snapshot = false;
  }
  row.ledger.insert(row.ledger.end(), rest.begin(), rest.end());
  for (CheckpointRow& checkpoint : row.checkpoints) checkpoint.voided |= checkpoint.step > effect.first_step;
  if (row.Committed() != effect.first_step) {
    world_->Fail(absl::StrCat(row.id, ": generation ", effect.generation, " begins at ", effect.first_step,
                              " but the ledger ends at ", row.Committed()));
  }
}

void SimStore::Put(JobRow& row, const core::StoreSteps& effect) {
  if (effect.generation != row.generation) world_->Fail(absl::StrCat(row.id, ": a stale generation commits"));
  if (effect.first_step != row.Committed() || effect.end_step <= effect.first_step ||
      effect.end_step > row.shape.total_steps) {
    world_->Fail(absl::StrCat(row.id, ": steps [", effect.first_step, ", ", effect.end_step, ") do not follow on ",
                              row.Committed()));
  }
  row.ledger.push_back({effect.generation, effect.first_step, effect.end_step, effect.snapshot, false});
}

void SimStore::Put(JobRow& row, const core::StoreDigest& effect) {
  const auto it = row.digests.find(effect.step);
  if (it != row.digests.end() && it->second != effect.digest) ++row.divergences;
  row.digests[effect.step] = effect.digest;
}

void SimStore::Put(JobRow& row, const core::StoreCheckpoint& effect) {
  if (effect.generation != row.generation) world_->Fail(absl::StrCat(row.id, ": a stale generation checkpoints"));
  row.checkpoints.push_back({effect.generation, effect.step, effect.path, effect.final});
}

void SimStore::Put(JobRow& row, const core::StoreRank& effect) {
  if (effect.generation != row.generation) world_->Fail(absl::StrCat(row.id, ": a rank of a stale generation"));
  row.ranks[effect.rank] = {effect.generation, effect.state};
}

void SimStore::Put(JobRow& row, const core::VoidCheckpoint& effect) {
  for (CheckpointRow& checkpoint : row.checkpoints) {
    checkpoint.voided |= checkpoint.step == effect.step && !checkpoint.final;
  }
}

void SimStore::Put(JobRow& row, const core::VoidSnapshots& effect) {
  for (LedgerRow& entry : row.ledger) entry.snapshot &= entry.end_step <= effect.after;
}

void SimStore::Put(JobRow& row, const core::StoreCancelRequest&) { row.cancel_requested = true; }

void SimStore::Put(JobRow& row, const core::StoreScale& effect) { row.shape.workers = effect.workers; }

void SimStore::Put(JobRow& row, const core::StoreEpoch& effect) { row.epochs = effect.epoch; }

core::Job SimStore::Load(const JobRow& row) const {
  core::Job job;
  job.id = row.id;
  job.order = row.order;
  job.shape = row.shape;
  job.state = row.state;
  job.generation = row.generation;
  job.cancel_requested = row.cancel_requested;
  job.cancel_reason = row.cancel_reason;
  job.epochs = row.epochs;
  job.high_water = row.high_water;
  job.restarts = row.restarts;
  job.stopped_at = row.stopped_at;
  job.ranks.resize(row.group_workers);
  job.committed = row.Committed();
  // The newest three rows, and of these two snapshots.
  std::vector<const LedgerRow*> rows;
  for (const LedgerRow& entry : row.ledger) {
    if (!entry.voided) rows.push_back(&entry);
  }
  std::sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) { return a->first_step > b->first_step; });
  for (size_t i = 0; i < std::min<size_t>(3, rows.size()); ++i) {
    if (rows[i]->snapshot && job.snapshots.size() < 2) job.snapshots[rows[i]->end_step] = rows[i]->generation;
  }
  for (const CheckpointRow& checkpoint : row.checkpoints) {
    if (!checkpoint.voided && !checkpoint.final) job.checkpoints[checkpoint.step] = checkpoint.path;
  }
  for (const auto& [number, stored] : row.ranks) {
    if (stored.generation != row.generation || number >= job.group_size()) continue;
    core::Rank& rank = job.ranks[number];
    rank.seen = true;
    rank.session = stored.state.session;
    rank.last_report = stored.state.last_report;
    rank.farewell = stored.state.farewell;
    rank.host = stored.state.host;
    rank.pid = stored.state.pid;
    rank.leased_end = job.committed;
  }
  return job;
}

}  // namespace lockstep::sim
