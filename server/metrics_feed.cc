// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_feed.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "lockstep/v1/loss.pb.h"
#include "server/core/job.h"

namespace lockstep {

namespace {

// Events that are replayed at most, and of a job that has more than are left.
constexpr int64_t kMaxReplayed = 100'000;
constexpr int64_t kTail = 200;
constexpr int64_t kPage = 1000;

metrics::StepsSample ToSample(const v1::StepsCommitted& steps) {
  metrics::StepsSample sample{.loss = steps.loss(),
                              .samples = steps.samples(),
                              .steps = steps.end_step() - steps.first_step(),
                              .samples_per_second = steps.samples_per_second()};
  if (steps.has_accuracy()) sample.accuracy = steps.accuracy();
  if (steps.has_phases()) {
    const v1::StepPhases& phases = steps.phases();
    sample.phases = {{"data", phases.data_seconds()},           {"forward", phases.forward_seconds()},
                     {"backward", phases.backward_seconds()},   {"allreduce", phases.allreduce_seconds()},
                     {"optimizer", phases.optimizer_seconds()}, {"lease", phases.lease_seconds()}};
    sample.data_wait_seconds = phases.data_seconds() * static_cast<double>(sample.steps);
  }
  return sample;
}

// Only kinds that there are: a worker's report must not make series without end.
void AddMetrics(const google::protobuf::RepeatedPtrField<v1::MetricValue>& metrics, const char* split,
                metrics::EpochSample& sample) {
  for (const v1::MetricValue& metric : metrics) {
    if (v1::MetricSpec::descriptor()->FindFieldByName(metric.name()) == nullptr) continue;
    sample.metrics.push_back({.name = metric.name(), .split = split, .value = metric.value()});
  }
}

}  // namespace

absl::Status MetricsFeed::Replay(const store::Store& store) {
  store_ = &store;
  LOCKSTEP_ASSIGN_OR_RETURN(jobs_by_state_, store.CountByState());
  LOCKSTEP_ASSIGN_OR_RETURN(
      std::vector<store::JobRow> live,
      store.ListJobs({core::JobState::kQueued, core::JobState::kStarting, core::JobState::kRunning}, INT64_MAX,
                     INT64_MAX));
  LOCKSTEP_ASSIGN_OR_RETURN(
      std::vector<store::JobRow> ended,
      store.ListJobs({core::JobState::kSucceeded, core::JobState::kFailed, core::JobState::kCancelled}, INT64_MAX,
                     metrics::kMaxEndedJobs));
  std::vector<store::JobRow> rows = std::move(live);
  for (const store::JobRow& row : rows) state_of_[row.job_id] = static_cast<int>(row.state);
  rows.insert(rows.end(), ended.begin(), ended.end());
  // Oldest first, so that the newest are kept where there are too many.
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
  int64_t left = kMaxReplayed;
  std::set<std::string> whole;
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    if (row->last_sequence > left) continue;
    left -= row->last_sequence;
    whole.insert(row->job_id);
  }
  for (const store::JobRow& row : rows) {
    LOCKSTEP_RETURN_IF_ERROR(ReplayJob(store, row, whole.contains(row.job_id)));
  }
  for (int state = 1; state <= 6; ++state) {
    metrics_->SetJobs(std::string(core::JobStateName(static_cast<core::JobState>(state))), jobs_by_state_[state]);
  }
  return absl::OkStatus();
}

absl::Status MetricsFeed::ReplayJob(const store::Store& store, const store::JobRow& row, bool whole) {
  replaying_ = true;
  counting_ = whole;
  int64_t after = whole ? 0 : std::max<int64_t>(0, row.last_sequence - kTail);
  while (after < row.last_sequence) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::EventRow> events, store.Events(row.job_id, after, kPage));
    if (events.empty()) break;
    for (const store::EventRow& stored : events) {
      v1::JobEvent event;
      if (event.ParseFromString(stored.body)) Feed(row.job_id, event);
    }
    after = events.back().sequence;
  }
  if (summed_.has_value()) metrics_->AddSteps(row.job_id, *summed_);
  // After the sum, which would bring its speed back.
  if (core::IsEnded(row.state)) metrics_->EndJob(row.job_id);
  summed_.reset();
  replaying_ = false;
  counting_ = true;
  return absl::OkStatus();
}

void MetricsFeed::OnEvent(const std::string& job_id, const v1::JobEvent& event) {
  if (event.has_state_changed()) CountState(job_id, event.sequence(), event.state_changed().state());
  Feed(job_id, event);
}

int MetricsFeed::EndedAs(const std::string& job_id, int64_t sequence) const {
  if (store_ == nullptr || sequence < 2) return 0;
  const auto before = store_->Events(job_id, sequence - 2, 1);
  v1::JobEvent event;
  if (!before.ok() || before->empty() || !event.ParseFromString(before->front().body)) return 0;
  return event.state_changed().state();
}

void MetricsFeed::CountState(const std::string& job_id, int64_t sequence, v1::JobState state) {
  const auto add = [this](int of, int64_t count) {
    jobs_by_state_[of] += count;
    metrics_->SetJobs(std::string(core::JobStateName(static_cast<core::JobState>(of))), jobs_by_state_[of]);
  };
  const auto known = state_of_.find(job_id);
  const int before = known != state_of_.end() ? known->second : EndedAs(job_id, sequence);
  if (before != 0) add(before, -1);
  add(state, 1);
  state_of_[job_id] = state;
  if (core::IsEnded(static_cast<core::JobState>(state))) state_of_.erase(job_id);
}

void MetricsFeed::Feed(const std::string& job_id, const v1::JobEvent& event) {
  switch (event.kind_case()) {
    case v1::JobEvent::kStateChanged:
      return TakeState(job_id, event.state_changed());
    case v1::JobEvent::kStepsCommitted:
      return TakeSteps(job_id, event.steps_committed());
    case v1::JobEvent::kEpochCompleted: {
      const v1::EpochCompleted& epoch = event.epoch_completed();
      metrics::EpochSample sample{.epoch = epoch.epoch()};
      if (epoch.has_test_loss()) sample.test_loss = epoch.test_loss();
      if (epoch.has_test_accuracy()) sample.test_accuracy = epoch.test_accuracy();
      if (epoch.has_test_r_squared()) sample.test_r_squared = epoch.test_r_squared();
      sample.learning_rate = epoch.learning_rate();
      AddMetrics(epoch.train_metrics(), "train", sample);
      AddMetrics(epoch.test_metrics(), "test", sample);
      return metrics_->AddEpoch(job_id, sample);
    }
    case v1::JobEvent::kWorkerChanged: {
      std::set<int>& up = workers_up_[job_id];
      if (event.worker_changed().connected()) up.insert(event.worker_changed().rank());
      if (!event.worker_changed().connected()) up.erase(event.worker_changed().rank());
      return metrics_->SetWorkersUp(job_id, static_cast<int>(up.size()));
    }
    case v1::JobEvent::kWarning:
      return TakeWarning(job_id, event.warning().kind());
    case v1::JobEvent::kCheckpointSaved:
    case v1::JobEvent::KIND_NOT_SET:
      return;
  }
}

void MetricsFeed::TakeState(const std::string& job_id, const v1::StateChanged& changed) {
  const auto state = static_cast<core::JobState>(changed.state());
  if (core::IsActive(state)) metrics_->StartJob(job_id);
  const auto [restarts, is_new] = restarts_of_.try_emplace(job_id, changed.restarts());
  if (counting_ && !is_new && changed.restarts() > restarts->second) metrics_->AddRestart(job_id);
  restarts->second = changed.restarts();
  if (core::IsEnded(state)) restarts_of_.erase(job_id);
  // Those of a group that was killed never said that they went, and the next group may be smaller.
  if (state != core::JobState::kRunning && workers_up_.erase(job_id) > 0) metrics_->SetWorkersUp(job_id, 0);
  if (core::IsEnded(state) && !replaying_) metrics_->EndJob(job_id);
}

void MetricsFeed::TakeSteps(const std::string& job_id, const v1::StepsCommitted& steps) {
  metrics::StepsSample sample = ToSample(steps);
  if (!counting_) {
    sample.samples = sample.steps = 0;
    sample.data_wait_seconds = 0;
  }
  if (!replaying_) return metrics_->AddSteps(job_id, sample);
  if (summed_.has_value()) {
    sample.samples += summed_->samples;
    sample.steps += summed_->steps;
    sample.data_wait_seconds += summed_->data_wait_seconds;
  }
  summed_ = std::move(sample);
}

void MetricsFeed::TakeWarning(const std::string& job_id, v1::WarningKind kind) {
  if (!counting_) return;
  if (kind == v1::WARNING_KIND_CHECKPOINT_FAILED) metrics_->AddFault(job_id, metrics::Fault::kCheckpointFailed);
  if (kind == v1::WARNING_KIND_DIVERGENCE) metrics_->AddFault(job_id, metrics::Fault::kDivergence);
  if (kind == v1::WARNING_KIND_NON_FINITE) metrics_->AddFault(job_id, metrics::Fault::kNonFinite);
}

}  // namespace lockstep
