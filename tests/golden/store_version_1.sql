-- SPDX-License-Identifier: Apache-2.0
-- The tables as the first version made them.
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
PRAGMA user_version=1;
