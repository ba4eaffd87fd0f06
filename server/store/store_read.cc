// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/store/store.h"

namespace lockstep::store {
namespace {

// How many of the newest ledger rows are looked through for snapshots. One that is older is of little use.
constexpr int64_t kSnapshotSearch = 100;

JobRow ReadJobRow(const Statement& statement) {
  JobRow row;
  row.job_id = statement.Bytes(0);
  row.order = statement.Int(1);
  row.state = static_cast<core::JobState>(statement.Int(2));
  row.generation = statement.Int(3);
  row.cancel_requested = statement.Int(4) != 0;
  row.cancel_reason = statement.Bytes(5);
  row.shape.workers = static_cast<int>(statement.Int(6));
  row.shape.threads_per_worker = static_cast<int>(statement.Int(7));
  row.shape.logical_shards = static_cast<int>(statement.Int(8));
  row.shape.total_steps = statement.Int(9);
  row.last_sequence = statement.Int(10);
  row.spec = statement.Bytes(11);
  row.status = statement.Bytes(12);
  row.group_workers = static_cast<int>(statement.Int(13));
  row.shape.steps_per_epoch = statement.Int(14);
  row.shape.first_step = statement.Int(15);
  row.epochs = statement.Int(16);
  row.high_water = statement.Int(17);
  row.restarts = statement.Int(18);
  row.stopped_at = statement.Int(19);
  return row;
}

}  // namespace

absl::StatusOr<JobRow> Store::GetJob(const std::string& job_id) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, reader_->Prepare("SELECT * FROM jobs WHERE job_id = ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, statement.BindText(1, job_id).Step());
  if (!found) return absl::NotFoundError(absl::StrCat("there is no job ", job_id));
  return ReadJobRow(statement);
}

absl::StatusOr<std::vector<JobRow>> Store::ListJobs(const std::vector<core::JobState>& states, int64_t before,
                                                    int64_t limit) const {
  // A bit set stands for the list of states, so that one statement serves all.
  int64_t mask = 0;
  for (const core::JobState state : states) mask |= int64_t{1} << static_cast<int>(state);
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT * FROM jobs WHERE ord < ?1 AND (?2 = 0 OR (?2 >> state) & 1) "
                                             "ORDER BY ord DESC LIMIT ?3"));
  statement.Bind(1, before).Bind(2, mask).Bind(3, limit);
  std::vector<JobRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back(ReadJobRow(statement));
  }
}

absl::StatusOr<std::vector<EventRow>> Store::Events(const std::string& job_id, int64_t after, int64_t limit) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT sequence, body FROM events WHERE job_id = ? AND sequence > ? "
                                             "ORDER BY sequence LIMIT ?"));
  statement.BindText(1, job_id).Bind(2, after).Bind(3, limit);
  std::vector<EventRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back({statement.Int(0), statement.Bytes(1)});
  }
}

absl::StatusOr<std::vector<LedgerRow>> Store::Ledger(const std::string& job_id) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT generation, first_step, end_step, voided FROM ledger "
                                             "WHERE job_id = ? ORDER BY generation, first_step"));
  statement.BindText(1, job_id);
  std::vector<LedgerRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back({statement.Int(0), statement.Int(1), statement.Int(2), statement.Int(3) != 0});
  }
}

absl::StatusOr<std::optional<RequestRow>> Store::FindRequest(const std::string& request_id) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT fingerprint, job_id FROM request_ids WHERE request_id = ?"));
  LOCKSTEP_ASSIGN_OR_RETURN(const bool found, statement.BindText(1, request_id).Step());
  if (!found) return std::optional<RequestRow>();
  return std::optional<RequestRow>(RequestRow{statement.Bytes(0), statement.Bytes(1)});
}

absl::StatusOr<std::vector<CheckpointRow>> Store::Checkpoints(const std::string& job_id) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT generation, step, path, final FROM checkpoints "
                                             "WHERE job_id = ? AND voided = 0 ORDER BY step, final, generation"));
  statement.BindText(1, job_id);
  std::vector<CheckpointRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back({statement.Int(0), statement.Int(1), statement.Bytes(2), statement.Int(3) != 0});
  }
}

absl::StatusOr<std::vector<DigestRow>> Store::Digests(const std::string& job_id, int64_t after, int64_t limit) const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            reader_->Prepare("SELECT step, digest FROM digests WHERE job_id = ? AND step > ? "
                                             "ORDER BY step LIMIT ?"));
  statement.BindText(1, job_id).Bind(2, after).Bind(3, limit);
  std::vector<DigestRow> rows;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back({statement.Int(0), statement.Bytes(1)});
  }
}

absl::StatusOr<core::Job> Store::ToCore(const JobRow& row) const {
  core::Job job;
  job.id = row.job_id;
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
  job.ranks.resize(std::max(0, row.group_workers));
  {
    LOCKSTEP_ASSIGN_OR_RETURN(Statement ledger,
                              reader_->Prepare("SELECT end_step, generation, snapshot FROM ledger WHERE job_id = ? AND "
                                               "voided = 0 ORDER BY first_step DESC LIMIT ?"));
    ledger.BindText(1, row.job_id).Bind(2, kSnapshotSearch);
    job.committed = row.shape.first_step;
    while (job.snapshots.size() < 2) {
      LOCKSTEP_ASSIGN_OR_RETURN(const bool more, ledger.Step());
      if (!more) break;
      job.committed = std::max(job.committed, ledger.Int(0));
      if (ledger.Int(2) != 0) job.snapshots[ledger.Int(0)] = ledger.Int(1);
    }
  }
  {
    LOCKSTEP_ASSIGN_OR_RETURN(Statement checkpoints,
                              reader_->Prepare("SELECT step, path FROM checkpoints WHERE job_id = ? AND voided = 0 AND "
                                               "final = 0 ORDER BY step, generation"));
    checkpoints.BindText(1, row.job_id);
    while (true) {
      LOCKSTEP_ASSIGN_OR_RETURN(const bool more, checkpoints.Step());
      if (!more) break;
      job.checkpoints[checkpoints.Int(0)] = checkpoints.Bytes(1);
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(Statement ranks,
                            reader_->Prepare("SELECT rank, session, last_report, farewell, host, pid FROM ranks "
                                             "WHERE job_id = ? AND generation = ?"));
  ranks.BindText(1, row.job_id).Bind(2, row.generation);
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, ranks.Step());
    if (!more) return job;
    if (ranks.Int(0) < 0 || ranks.Int(0) >= job.group_size()) continue;
    core::Rank& rank = job.ranks[ranks.Int(0)];
    rank.seen = true;
    rank.session = ranks.Int(1);
    rank.last_report = ranks.Int(2);
    rank.farewell = static_cast<core::Farewell>(ranks.Int(3));
    rank.host = ranks.Bytes(4);
    rank.pid = ranks.Int(5);
    rank.leased_end = job.committed;
  }
}

absl::StatusOr<std::vector<core::Job>> Store::LiveJobs() const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement jobs,
                            reader_->Prepare("SELECT * FROM jobs WHERE state IN (1, 2, 3) ORDER BY ord"));
  std::vector<core::Job> result;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, jobs.Step());
    if (!more) return result;
    LOCKSTEP_ASSIGN_OR_RETURN(core::Job job, ToCore(ReadJobRow(jobs)));
    result.push_back(std::move(job));
  }
}

absl::StatusOr<core::Job> Store::LoadJob(const std::string& job_id) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const JobRow row, GetJob(job_id));
  const std::lock_guard lock(reader_mutex_);
  return ToCore(row);
}

absl::StatusOr<std::map<int, int64_t>> Store::CountByState() const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, reader_->Prepare("SELECT state, COUNT(*) FROM jobs GROUP BY state"));
  std::map<int, int64_t> counts;
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return counts;
    counts[static_cast<int>(statement.Int(0))] = statement.Int(1);
  }
}

absl::StatusOr<int64_t> Store::LastOrder() const {
  const std::lock_guard lock(reader_mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, reader_->Prepare("SELECT COALESCE(MAX(ord), 0) FROM jobs"));
  LOCKSTEP_RETURN_IF_ERROR(statement.Step().status());
  return statement.Int(0);
}

}  // namespace lockstep::store
