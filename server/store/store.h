// SPDX-License-Identifier: Apache-2.0
// What the coordinator must not forget: jobs, events, the ledger, checkpoints and request ids, in SQLite.
// Specs, statuses and events are opaque bytes here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/failpoints.h"
#include "server/core/job.h"
#include "server/store/lock_file.h"
#include "server/store/sqlite.h"

namespace lockstep::store {

// A job's row.
struct JobRow {
  std::string job_id;
  // Order of submission, from 1.
  int64_t order = 0;
  core::JobShape shape;
  core::JobState state = core::JobState::kQueued;
  int64_t generation = 0;
  bool cancel_requested = false;
  std::string cancel_reason;
  // Size of the newest worker group.
  int group_workers = 0;
  int64_t epochs = 0;
  int64_t high_water = 0;
  int64_t restarts = 0;
  // See core::Job.
  int64_t stopped_at = 0;
  // Of its newest event; kept by AppendEvent.
  int64_t last_sequence = 0;
  std::string spec;
  std::string status;
};

// --- One change each. A batch of them is stored whole or not at all.
struct InsertJob {
  JobRow row;
};
// Everything of a row that may change, but for last_sequence.
struct UpdateJob {
  std::string job_id;
  core::JobState state = core::JobState::kQueued;
  int64_t generation = 0;
  bool cancel_requested = false;
  std::string cancel_reason;
  std::string status;
  // Left as they are where the job is not live any more.
  struct Live {
    int workers = 1;
    int group_workers = 0;
    int64_t epochs = 0;
    int64_t high_water = 0;
    int64_t restarts = 0;
    int64_t stopped_at = 0;
  };
  std::optional<Live> live;
};
// `sequence` must be the job's last one plus 1.
struct AppendEvent {
  std::string job_id;
  int64_t sequence = 0;
  std::string body;
};
struct AppendLedger {
  std::string job_id;
  int64_t generation = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
  bool snapshot = false;
};
// Replaces what is known of the rank.
struct PutRank {
  std::string job_id;
  int64_t generation = 0;
  int rank = 0;
  core::Rank state;
};
// Replaces the digest of the step.
struct PutDigest {
  std::string job_id;
  int64_t step = 0;
  std::string digest;
};
struct DropCheckpoint {
  std::string job_id;
  int64_t step = 0;
};
// Snapshots of the states after more than `after` steps are not used any more.
struct DropSnapshots {
  std::string job_id;
  int64_t after = 0;
};
// Voids ledger rows and checkpoints past `first_step`.
struct OpenGeneration {
  std::string job_id;
  int64_t generation = 0;
  int64_t first_step = 0;
};
struct InsertCheckpoint {
  std::string job_id;
  int64_t generation = 0;
  int64_t step = 0;
  std::string path;
  bool final = false;
};
struct InsertRequestId {
  std::string request_id;
  std::string fingerprint;
  std::string job_id;
};
using Change = std::variant<InsertJob, UpdateJob, AppendEvent, AppendLedger, PutRank, PutDigest, DropCheckpoint,
                            DropSnapshots, OpenGeneration, InsertCheckpoint, InsertRequestId>;
using Batch = std::vector<Change>;

struct EventRow {
  int64_t sequence = 0;
  std::string body;
};
struct LedgerRow {
  int64_t generation = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
  bool voided = false;
};
struct CheckpointRow {
  int64_t generation = 0;
  int64_t step = 0;
  std::string path;
  bool final = false;
};
struct DigestRow {
  int64_t step = 0;
  std::string digest;
};
struct RequestRow {
  std::string fingerprint;
  std::string job_id;
};

// Write from one thread only (its caller gathers what is due into one batch: the group commit); read from any.
class Store {
 public:
  // Opens or creates `folder` and its database, and locks it. FAILED_PRECONDITION where another process holds it.
  // `failpoints` may be null and outlives the store: "store.begin" before a transaction, "store.changes" after its
  // first change, "store.commit" before its commit, "store.committed" after it (where "error" does nothing).
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& folder, Failpoints* failpoints = nullptr);
  ~Store();

  // Durable when it returns OK. RESOURCE_EXHAUSTED: the disk is full or failing; nothing was stored.
  absl::Status Write(const Batch& batch);

  // NOT_FOUND where there is none.
  absl::StatusOr<JobRow> GetJob(const std::string& job_id) const;
  // Newest first, with order < `before`; only these states (empty: all); at most `limit`. Specs included.
  absl::StatusOr<std::vector<JobRow>> ListJobs(const std::vector<core::JobState>& states, int64_t before,
                                               int64_t limit) const;
  // With sequence > `after`, in order, at most `limit`.
  absl::StatusOr<std::vector<EventRow>> Events(const std::string& job_id, int64_t after, int64_t limit) const;
  absl::StatusOr<std::vector<LedgerRow>> Ledger(const std::string& job_id) const;
  // Those that count, oldest first.
  absl::StatusOr<std::vector<CheckpointRow>> Checkpoints(const std::string& job_id) const;
  // With step > `after`, in order, at most `limit`.
  absl::StatusOr<std::vector<DigestRow>> Digests(const std::string& job_id, int64_t after, int64_t limit) const;
  absl::StatusOr<std::optional<RequestRow>> FindRequest(const std::string& request_id) const;
  // Jobs that have not ended, in order, as the core wants them.
  absl::StatusOr<std::vector<core::Job>> LiveJobs() const;
  // One job, ended or not, as the core wants it. NOT_FOUND where there is none.
  absl::StatusOr<core::Job> LoadJob(const std::string& job_id) const;
  // How many jobs are in each state, by its number.
  absl::StatusOr<std::map<int, int64_t>> CountByState() const;
  // The greatest order so far; 0 where there is no job.
  absl::StatusOr<int64_t> LastOrder() const;

 private:
  // Holds reader_mutex_.
  absl::StatusOr<core::Job> ToCore(const JobRow& row) const;
  absl::Status Transact(const Batch& batch);
  // An armed "error" looks like a failing disk.
  absl::Status Hit(std::string_view name) const;
  Store(std::unique_ptr<LockFile> lock, std::unique_ptr<Database> writer, std::unique_ptr<Database> reader,
        Failpoints* failpoints);

  std::unique_ptr<LockFile> lock_;
  std::unique_ptr<Database> writer_;
  mutable std::mutex reader_mutex_;
  std::unique_ptr<Database> reader_;
  Failpoints* const failpoints_;
};

}  // namespace lockstep::store
