// SPDX-License-Identifier: Apache-2.0
// The coordinator's metrics, with a bound on how many jobs have series.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace lockstep::metrics {

// Series of so many ended jobs are kept, the newest.
inline constexpr int64_t kMaxEndedJobs = 100;

// One committed range of steps.
struct StepsSample {
  double loss = 0;
  std::optional<double> accuracy;
  int64_t samples = 0;
  int64_t steps = 0;
  double samples_per_second = 0;
  // Mean seconds of one step by phase.
  std::map<std::string, double> phases;
  // Over all steps of the range.
  double data_wait_seconds = 0;
};
// One of the job's own metrics. Names come from a fixed list: each is a series.
struct MetricSample {
  std::string name;
  // "train" or "test".
  std::string split;
  double value = 0;
};
struct EpochSample {
  int64_t epoch = 0;
  std::optional<double> test_loss;
  std::optional<double> test_accuracy;
  std::optional<double> test_r_squared;
  double learning_rate = 0;
  std::vector<MetricSample> metrics;
};

// What may go wrong in a job without ending it.
enum class Fault { kCheckpointFailed, kDivergence, kNonFinite };

// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  // `state` is an upper-case name.
  void SetJobs(const std::string& state, int64_t count);
  void AddSteps(const std::string& job_id, const StepsSample& sample);
  void AddEpoch(const std::string& job_id, const EpochSample& sample);
  void SetWorkersUp(const std::string& job_id, int count);
  void AddRestart(const std::string& job_id);
  void AddFault(const std::string& job_id, Fault fault);
  // The job begins: what is counted of it is there and zero, so that the first fault is seen as a change.
  void StartJob(const std::string& job_id);
  // The job has ended; its series are dropped when too many others have ended after it.
  void EndJob(const std::string& job_id);
  // A transaction failed (true), or the first one after that succeeded (false).
  void SetStoreFailing(bool failing);
  void CountCall(const std::string& method, const std::string& code);

  // The Prometheus text format.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::metrics
