// SPDX-License-Identifier: Apache-2.0
// What a job leaves for people beside the model: spec.json, and metrics.jsonl with one line per range of
// steps and per epoch. The store stays the truth; these are copies.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "lockstep/v1/events.pb.h"
#include "lockstep/v1/job.pb.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// Used by one thread.
class ResultFiles {
 public:
  // `jobs_dir` holds one folder per job.
  ResultFiles(std::string jobs_dir, const store::Store* store) : jobs_dir_(std::move(jobs_dir)), store_(store) {}

  std::string OutputDir(const std::string& job_id) const;
  // Makes the job's folder and writes spec.json.
  absl::Status Begin(const std::string& job_id, const lockstep::v1::JobSpec& spec);
  // After a restart, metrics.jsonl may be behind the store or end in half a line: adds what is missing.
  absl::Status Mend(const std::string& job_id);
  // Appends where the event is one of the two kinds.
  void Append(const std::string& job_id, const lockstep::v1::JobEvent& event);
  // Closes the file, after writing it anew where an append had failed.
  void End(const std::string& job_id);

 private:
  // Writes metrics.jsonl anew from the store.
  absl::Status Rebuild(const std::string& job_id);
  // Writes what the store has after an event.
  absl::Status WriteAfter(const std::string& job_id, int64_t sequence, std::ofstream& file) const;

  const std::string jobs_dir_;
  const store::Store* store_;
  std::map<std::string, std::ofstream> open_;
};

}  // namespace lockstep::rpc
