// SPDX-License-Identifier: Apache-2.0
// The commands, each a function that returns the exit status. app.cc reads the arguments.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "common/model/memory_plan.h"

namespace lockstep::cli {

struct SubmitArguments {
  // "-": standard input.
  std::string file;
  std::vector<std::string> overrides;
  // Empty: a random one, so that a retry within the call is not a second job.
  std::string request_id;
  bool watch = false;
  bool dry_run = false;
};
int Submit(const Options& options, const SubmitArguments& arguments, const std::atomic<bool>* interrupted);

struct RunArguments {
  std::string file;
  std::vector<std::string> overrides;
  // Where the coordinator keeps its state and the results; empty: ./lockstep-runs/<job>-<n>.
  std::string folder;
  int slots = 0;
};
// Starts a coordinator of its own, runs the job and stops the coordinator.
int Run(Options options, const RunArguments& arguments, const std::atomic<bool>* interrupted);

int Summary(const Options& options, const std::string& file, const std::vector<std::string>& overrides);
// The memory that each rank of the job will take.
int PlanCommand(const Options& options, const std::string& file, const std::vector<std::string>& overrides);
// One entry a rank, in order.
std::string MemoryJson(const std::vector<MemoryPlan>& ranks);
std::string MemoryTable(const std::vector<MemoryPlan>& ranks);
int List(const Options& options, int limit, const std::vector<std::string>& states);
int Show(const Options& options, const std::string& job_id);
int WatchCommand(const Options& options, const std::string& job_id, const std::atomic<bool>* interrupted);
int Cancel(const Options& options, const std::string& job_id, const std::string& reason);
int Logs(const Options& options, const std::string& job_id, bool follow);
int Scale(const Options& options, const std::string& job_id, int workers);
int Checkpoints(const Options& options, const std::string& job_id);

struct ResumeArguments {
  std::string job;
  // nullopt: from the newest checkpoint.
  std::optional<int64_t> from_step;
  // 0: as many as before.
  int workers = 0;
  bool watch = false;
};
int Resume(const Options& options, const ResumeArguments& arguments, const std::atomic<bool>* interrupted);

// Proves from the ledger that each step counts exactly once.
int Audit(const Options& options, const std::string& job_id);
// Finds the first step at which two jobs' digests part.
int Diff(const Options& options, const std::string& a, const std::string& b);

struct VerifyArguments {
  std::string job;
  // "100..200".
  std::string steps;
  // 0: as many as the job.
  int workers = 0;
};
// Does the steps again in a job of its own and compares the digests.
int Verify(const Options& options, const VerifyArguments& arguments, const std::atomic<bool>* interrupted);
int Health(const Options& options);
// What this machine can train on.
int Devices(const Options& options);

// Data folders, in the order in which they are searched: LOCKSTEP_DATA_DIR, ~/.cache/lockstep.
std::vector<std::string> DataRoots();
int DataFetch(const Options& options, const std::string& what, const std::string& folder);
int DataGenerate(const Options& options, const std::string& what, const std::string& folder, int64_t train,
                 int64_t test, uint64_t seed);

}  // namespace lockstep::cli
