// SPDX-License-Identifier: Apache-2.0
#include "server/store/store.h"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/store/schema.h"

namespace lockstep::store {
namespace {

absl::Status Apply(Database& database, const InsertJob& change) {
  const JobRow& row = change.row;
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            database.Prepare("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, "
                                             "0, ?, ?, 0, ?14, 0, 0)"));
  return statement.BindText(1, row.job_id)
      .Bind(2, row.order)
      .Bind(3, static_cast<int64_t>(row.state))
      .Bind(4, row.generation)
      .Bind(5, row.cancel_requested)
      .BindText(6, row.cancel_reason)
      .Bind(7, row.shape.workers)
      .Bind(8, row.shape.threads_per_worker)
      .Bind(9, row.shape.logical_shards)
      .Bind(10, row.shape.total_steps)
      .BindBlob(11, row.spec)
      .BindBlob(12, row.status)
      .Bind(13, row.shape.steps_per_epoch)
      .Bind(14, row.shape.first_step)
      .Run();
}

absl::Status Apply(Database& database, const UpdateJob& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(
      Statement statement,
      database.Prepare(
          "UPDATE jobs SET state = ?1, generation = ?2, cancel_requested = ?3, cancel_reason = ?4, status = ?5 "
          "WHERE job_id = ?6 AND generation <= ?2"));
  statement.Bind(1, static_cast<int64_t>(change.state))
      .Bind(2, change.generation)
      .Bind(3, change.cancel_requested)
      .BindText(4, change.cancel_reason)
      .BindBlob(5, change.status)
      .BindText(6, change.job_id);
  LOCKSTEP_RETURN_IF_ERROR(statement.Run());
  if (database.Changes() != 1) {
    return absl::InternalError(absl::StrCat("job ", change.job_id, " is missing or of a later generation"));
  }
  if (!change.live.has_value()) return absl::OkStatus();
  LOCKSTEP_ASSIGN_OR_RETURN(
      Statement live, database.Prepare("UPDATE jobs SET workers = ?, group_workers = ?, epochs = ?, high_water = ?, "
                                       "restarts = ?, stopped_at = ? WHERE job_id = ?"));
  return live.Bind(1, change.live->workers)
      .Bind(2, change.live->group_workers)
      .Bind(3, change.live->epochs)
      .Bind(4, change.live->high_water)
      .Bind(5, change.live->restarts)
      .Bind(6, change.live->stopped_at)
      .BindText(7, change.job_id)
      .Run();
}

absl::Status Apply(Database& database, const AppendEvent& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(
      Statement count,
      database.Prepare("UPDATE jobs SET last_sequence = ?1 WHERE job_id = ?2 AND last_sequence = ?1 - 1"));
  LOCKSTEP_RETURN_IF_ERROR(count.Bind(1, change.sequence).BindText(2, change.job_id).Run());
  if (database.Changes() != 1) {
    return absl::InternalError(
        absl::StrCat("event ", change.sequence, " of job ", change.job_id, " would leave a gap or repeat one"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(Statement insert, database.Prepare("INSERT INTO events VALUES (?, ?, ?)"));
  return insert.BindText(1, change.job_id).Bind(2, change.sequence).BindBlob(3, change.body).Run();
}

absl::Status Apply(Database& database, const AppendLedger& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare("INSERT INTO ledger VALUES (?, ?, ?, ?, 0, ?)"));
  return statement.BindText(1, change.job_id)
      .Bind(2, change.generation)
      .Bind(3, change.first_step)
      .Bind(4, change.end_step)
      .Bind(5, change.snapshot)
      .Run();
}

absl::Status Apply(Database& database, const PutRank& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            database.Prepare("INSERT OR REPLACE INTO ranks VALUES (?, ?, ?, ?, ?, ?, ?, ?)"));
  return statement.BindText(1, change.job_id)
      .Bind(2, change.rank)
      .Bind(3, change.generation)
      .Bind(4, change.state.session)
      .Bind(5, change.state.last_report)
      .Bind(6, static_cast<int64_t>(change.state.farewell))
      .BindText(7, change.state.host)
      .Bind(8, change.state.pid)
      .Run();
}

absl::Status Apply(Database& database, const PutDigest& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)"));
  return statement.BindText(1, change.job_id).Bind(2, change.step).BindText(3, change.digest).Run();
}

absl::Status Apply(Database& database, const DropCheckpoint& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(
      Statement statement,
      database.Prepare("UPDATE checkpoints SET voided = 1 WHERE job_id = ? AND step = ? AND final = 0"));
  return statement.BindText(1, change.job_id).Bind(2, change.step).Run();
}

absl::Status Apply(Database& database, const DropSnapshots& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(
      Statement statement,
      database.Prepare("UPDATE ledger SET snapshot = 0 WHERE job_id = ? AND end_step > ? AND snapshot <> 0"));
  return statement.BindText(1, change.job_id).Bind(2, change.after).Run();
}

absl::Status Apply(Database& database, const OpenGeneration& change) {
  // A row that straddles the first step is cut there; its rest is then void like every later row. Rows that count do
  // not overlap, so only the last one that begins below can straddle.
  for (const char* sql :
       {"INSERT INTO ledger SELECT job_id, generation, ?2, end_step, 1, 0 FROM ledger "
        "INDEXED BY ledger_that_counts WHERE job_id = ?1 AND voided = 0 AND end_step > ?2 AND first_step = "
        "(SELECT MAX(first_step) FROM ledger WHERE job_id = ?1 AND voided = 0 AND first_step < ?2)",
        "UPDATE ledger INDEXED BY ledger_that_counts SET end_step = ?2, snapshot = 0 WHERE job_id = ?1 AND voided = 0 "
        "AND end_step > ?2 AND "
        "first_step = (SELECT MAX(first_step) FROM ledger WHERE job_id = ?1 AND voided = 0 AND first_step < ?2)",
        "UPDATE ledger SET voided = 1 WHERE job_id = ?1 AND voided = 0 AND first_step >= ?2",
        "UPDATE checkpoints SET voided = 1 WHERE job_id = ?1 AND voided = 0 AND step > ?2"}) {
    LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare(sql));
    LOCKSTEP_RETURN_IF_ERROR(statement.BindText(1, change.job_id).Bind(2, change.first_step).Run());
  }
  LOCKSTEP_ASSIGN_OR_RETURN(Statement raise,
                            database.Prepare("UPDATE jobs SET generation = ?1 WHERE job_id = ?2 AND generation < ?1"));
  LOCKSTEP_RETURN_IF_ERROR(raise.Bind(1, change.generation).BindText(2, change.job_id).Run());
  if (database.Changes() == 1) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("generation ", change.generation, " of job ", change.job_id, " is not new"));
}

absl::Status Apply(Database& database, const InsertCheckpoint& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement,
                            database.Prepare("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, 0)"));
  return statement.BindText(1, change.job_id)
      .Bind(2, change.generation)
      .Bind(3, change.step)
      .BindText(4, change.path)
      .Bind(5, change.final)
      .Run();
}

absl::Status Apply(Database& database, const InsertRequestId& change) {
  LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare("INSERT INTO request_ids VALUES (?, ?, ?)"));
  return statement.BindText(1, change.request_id).BindText(2, change.fingerprint).BindText(3, change.job_id).Run();
}

}  // namespace

Store::Store(std::unique_ptr<LockFile> lock, std::unique_ptr<Database> writer, std::unique_ptr<Database> reader,
             Failpoints* failpoints)
    : lock_(std::move(lock)), writer_(std::move(writer)), reader_(std::move(reader)), failpoints_(failpoints) {}

Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& folder, Failpoints* failpoints) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat(folder, ": cannot create the state folder: ", error.message()));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(auto lock, LockFile::Acquire(absl::StrCat(folder, "/lock")));
  const std::string path = absl::StrCat(folder, "/lockstep.db");
  LOCKSTEP_ASSIGN_OR_RETURN(auto writer, Database::Open(path, false));
  chmod(path.c_str(), 0600);
  LOCKSTEP_RETURN_IF_ERROR(Migrate(*writer));
  LOCKSTEP_ASSIGN_OR_RETURN(auto reader, Database::Open(path, true));
  return std::unique_ptr<Store>(new Store(std::move(lock), std::move(writer), std::move(reader), failpoints));
}

absl::Status Store::Hit(std::string_view name) const {
  const absl::Status status = HitFailpoint(failpoints_, name);
  return status.ok() ? status
                     : absl::ResourceExhaustedError(absl::StrCat("the disk is full or failing: ", status.message()));
}

absl::Status Store::Transact(const Batch& batch) {
  LOCKSTEP_RETURN_IF_ERROR(Hit("store.begin"));
  LOCKSTEP_RETURN_IF_ERROR(writer_->Execute("BEGIN IMMEDIATE"));
  for (const Change& change : batch) {
    LOCKSTEP_RETURN_IF_ERROR(std::visit([&](const auto& c) { return Apply(*writer_, c); }, change));
    if (&change == &batch.front()) LOCKSTEP_RETURN_IF_ERROR(Hit("store.changes"));
  }
  LOCKSTEP_RETURN_IF_ERROR(Hit("store.commit"));
  return writer_->Execute("COMMIT");
}

absl::Status Store::Write(const Batch& batch) {
  if (batch.empty()) return absl::OkStatus();
  const absl::Status status = Transact(batch);
  if (status.ok()) {
    Hit("store.committed").IgnoreError();
  } else {
    writer_->Execute("ROLLBACK").IgnoreError();  // There may be no transaction, or the error has rolled it back.
  }
  return status;
}

}  // namespace lockstep::store
