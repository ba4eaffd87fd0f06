// SPDX-License-Identifier: Apache-2.0
#include "cli/watch.h"

#include <algorithm>
#include <chrono>
#include <ostream>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "common/model/step_phases.h"

namespace lockstep::cli {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstBackoff{100};
constexpr milliseconds kLastBackoff{2'000};
// Give up after the server has been away for so long.
constexpr std::chrono::seconds kPatience{300};
constexpr int kCurveWidth = 72;
constexpr int kCurveHeight = 10;

class Watcher {
 public:
  Watcher(const Options& options, Client& client, const std::string& job_id, const WatchOptions& watch)
      : options_(options), client_(client), job_id_(job_id), watch_(watch), last_sequence_(watch.after_sequence) {}

  int Run() {
    milliseconds backoff = kFirstBackoff;
    bool lost = false;
    for (;;) {
      heard_ = false;
      const grpc::Status status = Stream();
      if (Interrupted()) return Detach();
      if (status.ok()) return Finish();
      if (heard_) {
        backoff = kFirstBackoff;
        lost = false;
      }
      const bool broken =
          status.error_code() == grpc::StatusCode::UNAVAILABLE || status.error_code() == grpc::StatusCode::CANCELLED;
      if (!broken || last_sequence_ == 0 || std::chrono::steady_clock::now() - last_heard_ > kPatience) {
        EndProgress();
        return ReportError(options_, status);
      }
      // Once for each time, however long it lasts.
      if (!std::exchange(lost, true)) Note("the connection is lost; trying again");
      std::this_thread::sleep_for(backoff);
      backoff = std::min(backoff * 2, kLastBackoff);
    }
  }

 private:
  bool Interrupted() const { return watch_.interrupted != nullptr && watch_.interrupted->load(); }

  grpc::Status Stream() {
    grpc::ClientContext context;
    v1::WatchJobRequest request;
    request.set_job_id(job_id_);
    request.set_after_sequence(last_sequence_);
    // A stream has no deadline of its own, so an interrupt must be able to end it.
    std::atomic<bool> done{false};
    std::thread guard([&] {
      while (!done.load() && !Interrupted()) std::this_thread::sleep_for(milliseconds(50));
      if (!done.load()) context.TryCancel();
    });
    const auto stream = client_.stub().WatchJob(&context, request);
    v1::WatchJobResponse response;
    while (stream->Read(&response)) {
      // Also a heartbeat.
      heard_ = true;
      last_heard_ = std::chrono::steady_clock::now();
      if (!response.has_event() || response.event().sequence() <= last_sequence_) continue;
      last_sequence_ = response.event().sequence();
      Take(response.event());
    }
    const grpc::Status status = stream->Finish();
    done.store(true);
    guard.join();
    return status;
  }

  void Take(const v1::JobEvent& event) {
    if (event.has_state_changed()) {
      state_ = event.state_changed().state();
      reason_ = event.state_changed().reason();
    }
    if (options_.json) {
      *options_.out << ToJson(event, false) << std::endl;
      return;
    }
    switch (event.kind_case()) {
      case v1::JobEvent::kStateChanged:
        Note(StateLine(event.state_changed()));
        break;
      case v1::JobEvent::kStepsCommitted:
        TakeSteps(event.steps_committed());
        break;
      case v1::JobEvent::kEpochCompleted:
        epoch_ = event.epoch_completed();
        EndProgress();
        *options_.out << EpochLine(epoch_) << std::endl;
        break;
      case v1::JobEvent::kCheckpointSaved:
        if (event.checkpoint_saved().final()) model_ = event.checkpoint_saved();
        break;
      case v1::JobEvent::kWarning:
        Note(absl::StrCat("warning: ", absl::StrReplaceAll(event.warning().message(), {{"\n", " "}})));
        break;
      case v1::JobEvent::kWorkerChanged:
      case v1::JobEvent::KIND_NOT_SET:
        break;
    }
  }

  void TakeSteps(const v1::StepsCommitted& steps) {
    // A resumed job repeats steps; the curve keeps the newest.
    while (!curve_.empty() && curve_.back().first >= static_cast<double>(steps.end_step())) curve_.pop_back();
    curve_.push_back({static_cast<double>(steps.end_step()), steps.loss()});
    if (options_.width == 0) return;
    if (!std::exchange(asked_, true)) total_epochs_ = AskEpochs();
    const double samples_per_step = static_cast<double>(steps.samples()) /
                                    static_cast<double>(std::max<int64_t>(1, steps.end_step() - steps.first_step()));
    const ProgressState progress{
        .step = steps.end_step(),
        .total_steps = steps.total_steps(),
        .total_epochs = total_epochs_,
        .loss = steps.loss(),
        .classification = steps.has_accuracy(),
        .accuracy = steps.accuracy(),
        .samples_per_second = steps.samples_per_second(),
        .steps_per_second = samples_per_step > 0 ? steps.samples_per_second() / samples_per_step : 0,
        .data_wait_share = DataWaitShare(steps.phases())};
    *options_.err << "\r\x1b[2K" << ProgressLine(progress, options_.width - 1) << std::flush;
    in_progress_ = true;
  }

  int64_t AskEpochs() {
    v1::GetJobRequest request;
    request.set_job_id(job_id_);
    v1::GetJobResponse response;
    const grpc::Status status = client_.Call(&v1::TrainingService::Stub::GetJob, request, &response);
    // A part of a job is not counted in epochs.
    if (status.ok() && response.job().spec().has_replay()) return 0;
    return status.ok() ? response.job().spec().training().epochs() : 1;
  }

  // A line of its own, with the progress line out of the way.
  void Note(const std::string& text) {
    if (options_.json) return;
    EndProgress();
    *options_.err << text << std::endl;
  }

  void EndProgress() {
    if (in_progress_) *options_.err << "\r\x1b[2K" << std::flush;
    in_progress_ = false;
  }

  int Detach() {
    EndProgress();
    return kInterrupted;
  }

  int Finish() {
    EndProgress();
    if (!options_.json && watch_.summary) Summarise();
    switch (state_) {
      case v1::JOB_STATE_SUCCEEDED:
        return kOk;
      case v1::JOB_STATE_CANCELLED:
        return kJobCancelled;
      default:
        return kJobFailed;
    }
  }

  void Summarise() {
    if (state_ == v1::JOB_STATE_SUCCEEDED) {
      const int width = options_.width == 0 ? kCurveWidth : std::min(options_.width, kCurveWidth);
      *options_.out << "\n" << LossCurve(curve_, width, kCurveHeight, options_.ascii) << "\n";
      if (epoch_.has_test_accuracy()) {
        *options_.out << absl::StrFormat("test accuracy  %.4f\n", epoch_.test_accuracy());
      } else if (epoch_.has_test_r_squared()) {
        *options_.out << absl::StrFormat("test R2        %.4f\n", epoch_.test_r_squared());
      }
      if (epoch_.has_test_loss()) *options_.out << absl::StrFormat("test loss      %.4f\n", epoch_.test_loss());
      for (const v1::MetricValue& metric : epoch_.test_metrics()) {
        if (metric.name() == "accuracy" || metric.name() == "r_squared" || metric.matrix_size() > 0) continue;
        *options_.out << absl::StrFormat("%-14s %.4f\n", "test " + metric.name(), metric.value());
      }
      const bool tested = epoch_.has_test_loss();
      for (const v1::MetricValue& metric : tested ? epoch_.test_metrics() : epoch_.train_metrics()) {
        if (metric.matrix_size() == 0) continue;
        *options_.out << (tested ? "test" : "train") << " samples by label (rows) and what they were taken for\n"
                      << ConfusionTable(metric);
      }
      *options_.out << "model          " << model_.path() << "\n"
                    << "sha256         " << model_.parameters_sha256() << std::endl;
    }
  }

  const Options& options_;
  Client& client_;
  const std::string job_id_;
  const WatchOptions& watch_;
  int64_t last_sequence_;
  // Something came on the newest stream, and when.
  bool heard_ = false;
  std::chrono::steady_clock::time_point last_heard_ = std::chrono::steady_clock::now();
  v1::JobState state_ = v1::JOB_STATE_UNSPECIFIED;
  std::string reason_;
  int64_t total_epochs_ = 0;
  bool asked_ = false;
  v1::EpochCompleted epoch_;
  v1::CheckpointSaved model_;
  std::vector<std::pair<double, double>> curve_;
  bool in_progress_ = false;
};

}  // namespace

int Watch(const Options& options, Client& client, const std::string& job_id, const WatchOptions& watch) {
  return Watcher(options, client, job_id, watch).Run();
}

}  // namespace lockstep::cli
