// SPDX-License-Identifier: Apache-2.0
#include "server/store/schema.h"

#include <cstdint>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep::store {
namespace {

// Entry i takes user_version i to i + 1. Never change an entry that was released: add one.
constexpr const char* kMigrations[] = {
    R"sql(
CREATE TABLE jobs (
  job_id TEXT PRIMARY KEY,
  ord INTEGER NOT NULL UNIQUE,
  state INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  cancel_requested INTEGER NOT NULL,
  cancel_reason TEXT NOT NULL,
  workers INTEGER NOT NULL,
  threads_per_worker INTEGER NOT NULL,
  logical_shards INTEGER NOT NULL,
  total_steps INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL,
  spec BLOB NOT NULL,
  status BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, ord);
CREATE TABLE events (
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  sequence INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (job_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  generation INTEGER NOT NULL,
  first_step INTEGER NOT NULL,
  end_step INTEGER NOT NULL CHECK (end_step > first_step),
  voided INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, generation, first_step)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  generation INTEGER NOT NULL,
  step INTEGER NOT NULL,
  path TEXT NOT NULL,
  final INTEGER NOT NULL,
  voided INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, step, generation, final)
) STRICT, WITHOUT ROWID;
CREATE TABLE request_ids (
  request_id TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  job_id TEXT NOT NULL REFERENCES jobs (job_id)
) STRICT, WITHOUT ROWID;
)sql",
    R"sql(
ALTER TABLE jobs ADD COLUMN group_workers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN steps_per_epoch INTEGER NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN first_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN epochs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN high_water INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN snapshot INTEGER NOT NULL DEFAULT 0;
CREATE INDEX ledger_that_counts ON ledger (job_id, first_step) WHERE voided = 0;
CREATE TABLE ranks (
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  rank INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  session INTEGER NOT NULL,
  last_report INTEGER NOT NULL,
  farewell INTEGER NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  PRIMARY KEY (job_id, rank)
) STRICT, WITHOUT ROWID;
CREATE TABLE digests (
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  step INTEGER NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (job_id, step)
) STRICT, WITHOUT ROWID;
)sql",
    R"sql(
ALTER TABLE jobs ADD COLUMN stopped_at INTEGER NOT NULL DEFAULT 0;
)sql",
};

}  // namespace

absl::Status Migrate(Database& database) {
  int64_t version = 0;
  {
    LOCKSTEP_ASSIGN_OR_RETURN(Statement statement, database.Prepare("PRAGMA user_version"));
    LOCKSTEP_RETURN_IF_ERROR(statement.Step().status());
    version = statement.Int(0);
  }
  constexpr int64_t kNewest = std::size(kMigrations);
  if (version > kNewest) {
    return absl::FailedPreconditionError(absl::StrCat("the state was written by a newer lockstepd (version ", version,
                                                      ", this one knows ", kNewest, "): use that one"));
  }
  for (; version < kNewest; ++version) {
    const std::string sql =
        absl::StrCat("BEGIN IMMEDIATE;", kMigrations[version], "PRAGMA user_version=", version + 1, ";COMMIT;");
    if (absl::Status status = database.Execute(sql.c_str()); !status.ok()) {
      database.Execute("ROLLBACK").IgnoreError();
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::store
