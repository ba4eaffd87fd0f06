// SPDX-License-Identifier: Apache-2.0
#include "server/metrics/metrics.h"

#include <algorithm>
#include <cctype>
#include <deque>
#include <functional>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "server/metrics/process_metrics.h"

namespace lockstep::metrics {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Labels;

Family<Gauge>& MakeGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Counter>& MakeCounter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  ProcessMetrics process;
  Family<Gauge>& build = MakeGauge(registry, "lockstep_build_info", "Always 1; the labels say what runs.");
  Family<Gauge>& jobs = MakeGauge(registry, "lockstep_jobs", "Stored jobs by state.");
  Family<Gauge>& loss =
      MakeGauge(registry, "lockstep_train_loss", "Mean loss over the newest report: split is train or test.");
  Family<Gauge>& accuracy = MakeGauge(registry, "lockstep_train_accuracy_ratio",
                                      "Share of right predictions over the newest report: split is train or test.");
  Family<Gauge>& r_squared =
      MakeGauge(registry, "lockstep_train_r_squared_ratio", "Coefficient of determination of the newest evaluation.");
  Family<Counter>& samples =
      MakeCounter(registry, "lockstep_train_samples_total", "Samples trained on, those done again included.");
  Family<Counter>& steps =
      MakeCounter(registry, "lockstep_train_steps_total", "Steps committed, those done again included.");
  Family<Gauge>& rate =
      MakeGauge(registry, "lockstep_train_samples_per_second", "Training speed over the newest report.");
  Family<Gauge>& epoch = MakeGauge(registry, "lockstep_train_epoch", "Epochs completed.");
  Family<Gauge>& learning_rate =
      MakeGauge(registry, "lockstep_train_learning_rate", "Learning rate of the newest epoch's last step.");
  Family<Gauge>& job_metric = MakeGauge(registry, "lockstep_train_metric",
                                        "The job's metrics over the newest epoch, by name: split is train or test.");
  Family<Gauge>& phase =
      MakeGauge(registry, "lockstep_step_phase_seconds", "Mean seconds of one step on rank 0 by phase.");
  Family<Counter>& data_wait = MakeCounter(registry, "lockstep_train_data_wait_seconds_total",
                                           "Seconds that steps waited for data on rank 0; its rate is the share.");
  Family<Gauge>& workers = MakeGauge(registry, "lockstep_workers_up", "Workers with an open session.");
  Family<Counter>& restarts =
      MakeCounter(registry, "lockstep_job_restarts_total", "Launches of the worker group after the first.");
  Family<Counter>& checkpoint_failures =
      MakeCounter(registry, "lockstep_checkpoint_failures_total", "Checkpoints and models that could not be saved.");
  Family<Counter>& divergences =
      MakeCounter(registry, "lockstep_divergence_alarms_total", "Parameters that had to be the same and were not.");
  Family<Counter>& non_finite =
      MakeCounter(registry, "lockstep_non_finite_steps_total", "Steps whose gradient or loss was not a finite number.");
  Gauge& store_failing =
      MakeGauge(registry, "lockstep_store_failing", "1 while nothing can be stored; jobs then wait for the disk.")
          .Add({});
  Counter& store_failures =
      MakeCounter(registry, "lockstep_store_failures_total", "Transactions that could not be stored.").Add({});
  Family<Counter>& calls =
      MakeCounter(registry, "lockstep_rpc_requests_total", "Calls that have ended, by method and code.");

  std::mutex mutex;
  // How to remove each series of a job; keeping a reference to a removed one would be fatal.
  std::map<std::string, std::map<const void*, std::function<void()>>> series;
  std::deque<std::string> ended;

  // The job's metric with these further labels, remembered for its removal.
  template <typename T>
  T& Of(Family<T>& family, const std::string& job_id, Labels labels = {}) {
    labels["job_id"] = job_id;
    T& metric = family.Add(labels);
    series[job_id].try_emplace(&metric, [&family, &metric] { family.Remove(&metric); });
    return metric;
  }

  Family<Counter>& Of(Fault fault) {
    if (fault == Fault::kCheckpointFailed) return checkpoint_failures;
    return fault == Fault::kDivergence ? divergences : non_finite;
  }

  void Drop(const std::string& job_id) {
    for (const auto& [metric, remove] : series[job_id]) remove();
    series.erase(job_id);
  }
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {
  impl_->build.Add({{"version", LOCKSTEP_VERSION}, {"compiler", __VERSION__}}).Set(1);
}

Metrics::~Metrics() = default;

void Metrics::SetJobs(const std::string& state, int64_t count) {
  std::string label = state;
  std::transform(label.begin(), label.end(), label.begin(), [](unsigned char c) { return std::tolower(c); });
  impl_->jobs.Add({{"state", label}}).Set(static_cast<double>(count));
}

void Metrics::AddSteps(const std::string& job_id, const StepsSample& sample) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Of(impl_->loss, job_id, {{"split", "train"}}).Set(sample.loss);
  if (sample.accuracy) impl_->Of(impl_->accuracy, job_id, {{"split", "train"}}).Set(*sample.accuracy);
  impl_->Of(impl_->samples, job_id).Increment(static_cast<double>(std::max<int64_t>(0, sample.samples)));
  impl_->Of(impl_->steps, job_id).Increment(static_cast<double>(std::max<int64_t>(0, sample.steps)));
  impl_->Of(impl_->rate, job_id).Set(sample.samples_per_second);
  impl_->Of(impl_->data_wait, job_id).Increment(std::max(0.0, sample.data_wait_seconds));
  for (const auto& [phase, seconds] : sample.phases) {
    impl_->Of(impl_->phase, job_id, {{"phase", phase}}).Set(seconds);
  }
}

void Metrics::AddEpoch(const std::string& job_id, const EpochSample& sample) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Of(impl_->epoch, job_id).Set(static_cast<double>(sample.epoch));
  if (sample.test_loss) impl_->Of(impl_->loss, job_id, {{"split", "test"}}).Set(*sample.test_loss);
  if (sample.test_accuracy) impl_->Of(impl_->accuracy, job_id, {{"split", "test"}}).Set(*sample.test_accuracy);
  if (sample.test_r_squared) impl_->Of(impl_->r_squared, job_id, {{"split", "test"}}).Set(*sample.test_r_squared);
  impl_->Of(impl_->learning_rate, job_id).Set(sample.learning_rate);
  for (const MetricSample& m : sample.metrics) {
    impl_->Of(impl_->job_metric, job_id, {{"name", m.name}, {"split", m.split}}).Set(m.value);
  }
}

void Metrics::SetWorkersUp(const std::string& job_id, int count) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Of(impl_->workers, job_id).Set(count);
}

void Metrics::AddRestart(const std::string& job_id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Of(impl_->restarts, job_id).Increment();
}

void Metrics::AddFault(const std::string& job_id, Fault fault) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Of(impl_->Of(fault), job_id).Increment();
}

void Metrics::StartJob(const std::string& job_id) {
  const std::lock_guard lock(impl_->mutex);
  // It may have ended and go on.
  std::erase(impl_->ended, job_id);
  for (const Fault fault : {Fault::kCheckpointFailed, Fault::kDivergence, Fault::kNonFinite}) {
    impl_->Of(impl_->Of(fault), job_id).Increment(0);
  }
  impl_->Of(impl_->restarts, job_id).Increment(0);
}

void Metrics::SetStoreFailing(bool failing) {
  impl_->store_failing.Set(failing ? 1 : 0);
  if (failing) impl_->store_failures.Increment();
}

void Metrics::EndJob(const std::string& job_id) {
  const std::lock_guard lock(impl_->mutex);
  // Speed and step times of what no longer runs would mislead a sum.
  if (impl_->series.contains(job_id)) impl_->Of(impl_->rate, job_id).Set(0);
  impl_->ended.push_back(job_id);
  while (static_cast<int64_t>(impl_->ended.size()) > kMaxEndedJobs) {
    impl_->Drop(impl_->ended.front());
    impl_->ended.pop_front();
  }
}

void Metrics::CountCall(const std::string& method, const std::string& code) {
  impl_->calls.Add({{"method", method}, {"code", code}}).Increment();
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  for (prometheus::MetricFamily& family : impl_->process.Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace lockstep::metrics
