// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_feed.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/status_macros.h"
#include "server/core/job.h"

namespace lockstep {

namespace v1 = lockstep::v1;

absl::Status MetricsFeed::Replay(const store::Store& store) {
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
  for (const store::JobRow& row : rows) {
    int64_t after = 0;
    while (true) {
      LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::EventRow> events, store.Events(row.job_id, after, 1000));
      if (events.empty()) break;
      for (const store::EventRow& stored : events) {
        v1::JobEvent event;
        if (event.ParseFromString(stored.body)) Feed(row.job_id, event);
        after = stored.sequence;
      }
    }
  }
  for (int state = 1; state <= 6; ++state) {
    metrics_->SetJobs(std::string(core::JobStateName(static_cast<core::JobState>(state))), jobs_by_state_[state]);
  }
  return absl::OkStatus();
}

void MetricsFeed::OnEvent(const std::string& job_id, const v1::JobEvent& event) {
  if (event.has_state_changed()) CountState(job_id, event.state_changed().state());
  Feed(job_id, event);
}

void MetricsFeed::CountState(const std::string& job_id, v1::JobState state) {
  const auto set = [this](int of) {
    metrics_->SetJobs(std::string(core::JobStateName(static_cast<core::JobState>(of))), jobs_by_state_[of]);
  };
  if (const auto before = state_of_.find(job_id); before != state_of_.end()) {
    --jobs_by_state_[before->second];
    set(before->second);
    state_of_.erase(before);
  }
  ++jobs_by_state_[state];
  set(state);
  if (!core::IsEnded(static_cast<core::JobState>(state))) state_of_[job_id] = state;
}

void MetricsFeed::Feed(const std::string& job_id, const v1::JobEvent& event) {
  switch (event.kind_case()) {
    case v1::JobEvent::kStateChanged: {
      const v1::StateChanged& changed = event.state_changed();
      if (changed.state() == v1::JOB_STATE_STARTING && changed.generation() > 1) metrics_->AddRestart(job_id);
      if (!core::IsActive(static_cast<core::JobState>(changed.state()))) {
        // Those of a coordinator that was killed never said that they went.
        if (workers_up_.erase(job_id) > 0) metrics_->SetWorkersUp(job_id, 0);
      }
      if (core::IsEnded(static_cast<core::JobState>(changed.state()))) metrics_->EndJob(job_id);
      break;
    }
    case v1::JobEvent::kStepsCommitted: {
      const v1::StepsCommitted& steps = event.steps_committed();
      metrics::StepsSample sample{.loss = steps.loss(),
                                  .samples = steps.samples(),
                                  .steps = steps.end_step() - steps.first_step(),
                                  .samples_per_second = steps.samples_per_second()};
      if (steps.has_accuracy()) sample.accuracy = steps.accuracy();
      if (steps.has_phases()) {
        const v1::StepPhases& phases = steps.phases();
        sample.phases = {{"data", phases.data_seconds()},
                         {"forward", phases.forward_seconds()},
                         {"backward", phases.backward_seconds()},
                         {"allreduce", phases.allreduce_seconds()},
                         {"optimizer", phases.optimizer_seconds()}};
      }
      metrics_->AddSteps(job_id, sample);
      break;
    }
    case v1::JobEvent::kEpochCompleted: {
      const v1::EpochCompleted& epoch = event.epoch_completed();
      metrics::EpochSample sample{.epoch = epoch.epoch()};
      if (epoch.has_test_loss()) sample.test_loss = epoch.test_loss();
      if (epoch.has_test_accuracy()) sample.test_accuracy = epoch.test_accuracy();
      if (epoch.has_test_r_squared()) sample.test_r_squared = epoch.test_r_squared();
      metrics_->AddEpoch(job_id, sample);
      break;
    }
    case v1::JobEvent::kWorkerChanged: {
      std::set<int>& up = workers_up_[job_id];
      if (event.worker_changed().connected()) up.insert(event.worker_changed().rank());
      if (!event.worker_changed().connected()) up.erase(event.worker_changed().rank());
      metrics_->SetWorkersUp(job_id, static_cast<int>(up.size()));
      break;
    }
    default:
      break;
  }
}

}  // namespace lockstep
