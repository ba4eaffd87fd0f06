// SPDX-License-Identifier: Apache-2.0
// The simulated store: exactly what committed transactions said, and nothing else. It also holds the
// ledger to its promises with each row.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "server/core/events.h"
#include "tests/scenario/sim_world.h"

namespace lockstep::sim {

struct LedgerRow {
  int64_t generation = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
  bool snapshot = false;
  bool voided = false;
};
struct CheckpointRow {
  int64_t generation = 0;
  int64_t step = 0;
  std::string path;
  bool final = false;
  bool voided = false;
};
struct JobRow {
  core::JobId id;
  int64_t order = 0;
  core::JobShape shape;
  core::JobState state = core::JobState::kQueued;
  std::string reason;
  int64_t generation = 0;
  bool cancel_requested = false;
  std::string cancel_reason;
  int group_workers = 0;
  int64_t epochs = 0;
  int64_t high_water = 0;
  int64_t restarts = 0;
  int64_t stopped_at = 0;
  int64_t last_sequence = 0;
  std::vector<LedgerRow> ledger;
  std::vector<CheckpointRow> checkpoints;
  struct RankRow {
    int64_t generation = 0;
    core::Rank state;
  };
  std::map<int, RankRow> ranks;
  std::map<int64_t, std::string> digests;
  int64_t divergences = 0;

  // The end of the rows that count.
  int64_t Committed() const;
};

// One thing to store. The coordinator gives the sequence of what people see.
struct Change {
  core::Effect effect;
  int64_t sequence = 0;
  std::optional<core::JobSubmitted> insert;
};
// What the core's job says when the transaction is made.
struct Update {
  core::JobId id;
  int workers = 1;
  int group_workers = 0;
  int64_t epochs = 0;
  int64_t high_water = 0;
  int64_t restarts = 0;
  int64_t stopped_at = 0;
  std::string cancel_reason;
};

class SimStore {
 public:
  explicit SimStore(World* world) : world_(world) {}

  void Write(const std::vector<Change>& changes, const std::vector<Update>& updates);
  const JobRow* Find(const core::JobId& id) const;
  const std::map<core::JobId, JobRow>& rows() const { return rows_; }
  // As store::Store::LoadJob.
  core::Job Load(const JobRow& row) const;
  // Whether people see an event of this.
  static bool IsSeen(const core::Effect& effect);
  // Whether it is stored at all.
  static bool IsStored(const core::Effect& effect);

 private:
  void Insert(const core::JobSubmitted& submitted);
  void Put(JobRow& row, const core::StoreState& effect);
  void Put(JobRow& row, const core::StoreGeneration& effect);
  void Put(JobRow& row, const core::StoreSteps& effect);
  void Put(JobRow& row, const core::StoreDigest& effect);
  void Put(JobRow& row, const core::StoreCheckpoint& effect);
  void Put(JobRow& row, const core::StoreRank& effect);
  void Put(JobRow& row, const core::VoidCheckpoint& effect);
  void Put(JobRow& row, const core::VoidSnapshots& effect);
  void Put(JobRow& row, const core::StoreCancelRequest& effect);
  void Put(JobRow& row, const core::StoreScale& effect);
  void Put(JobRow& row, const core::StoreEpoch& effect);
  // What is not stored, or only seen.
  template <typename Effect>
  void Put(JobRow&, const Effect&) {}

  World* const world_;
  std::map<core::JobId, JobRow> rows_;
};

}  // namespace lockstep::sim
