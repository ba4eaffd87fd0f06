// SPDX-License-Identifier: Apache-2.0
// The commands against a server of the test's own.
#include "cli/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "lockstep/rpc/status.pb.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class FakeService final : public v1::TrainingService::Service {
 public:
  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                         v1::SubmitJobResponse* response) override {
    if (request->spec().seed() == 13) {
      rpc::BadRequest bad;
      auto* violation = bad.add_field_violations();
      violation->set_field("spec.training.epochs");
      violation->set_description("must be at least 1");
      rpc::Status status;
      auto* detail = status.add_details();
      detail->set_type_url("type.googleapis.com/google.rpc.BadRequest");
      bad.SerializeToString(detail->mutable_value());
      return {grpc::StatusCode::INVALID_ARGUMENT, "the job is not valid", status.SerializeAsString()};
    }
    response->mutable_job()->set_job_id("job-1");
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    // Two pages.
    const bool first = request->page_token().empty();
    v1::Job* job = response->add_jobs();
    job->set_job_id(first ? "job-2" : "job-1");
    job->set_state(v1::JOB_STATE_RUNNING);
    if (first) response->set_next_page_token("more");
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    if (request->job_id() != "job-1") return {grpc::StatusCode::NOT_FOUND, "no job of this id"};
    // The first connection breaks after two events.
    const bool first = calls_++ == 0;
    for (const v1::JobEvent& event : events) {
      if (event.sequence() <= request->after_sequence()) continue;
      if (first && event.sequence() > 2) return {grpc::StatusCode::UNAVAILABLE, "gone"};
      v1::WatchJobResponse response;
      *response.mutable_event() = event;
      writer->Write(response);
    }
    return grpc::Status::OK;
  }
  std::vector<v1::JobEvent> events;

 private:
  int calls_ = 0;
};

class WatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    options_ = {.server = absl::StrCat("127.0.0.1:", port), .out = &out_, .err = &err_};
    State(v1::JOB_STATE_RUNNING, "");
    for (int i = 0; i < 3; ++i) {
      v1::StepsCommitted& steps = *Event().mutable_steps_committed();
      steps.set_first_step(i * 10);
      steps.set_end_step(i * 10 + 10);
      steps.set_loss(3.0 - i);
    }
    v1::EpochCompleted& epoch = *Event().mutable_epoch_completed();
    epoch.set_epoch(1);
    epoch.set_total_epochs(1);
    epoch.set_test_accuracy(0.975);
    v1::CheckpointSaved& model = *Event().mutable_checkpoint_saved();
    model.set_final(true);
    model.set_path("/results/model.safetensors");
  }
  v1::JobEvent& Event() {
    v1::JobEvent& event = service_.events.emplace_back();
    event.set_sequence(static_cast<int64_t>(service_.events.size()));
    return event;
  }
  void State(v1::JobState state, const std::string& reason) {
    v1::StateChanged& change = *Event().mutable_state_changed();
    change.set_state(state);
    change.set_reason(reason);
  }

  FakeService service_;
  std::unique_ptr<grpc::Server> server_;
  std::ostringstream out_, err_;
  Options options_;
};

TEST_F(WatchTest, ReconnectsAndEndsWithTheSummary) {
  State(v1::JOB_STATE_SUCCEEDED, "");
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kOk);
  EXPECT_THAT(err_.str(), HasSubstr("the connection is lost"));
  EXPECT_THAT(out_.str(), HasSubstr("epoch 1/1"));
  EXPECT_THAT(out_.str(), HasSubstr("test accuracy  0.9750"));
  EXPECT_THAT(out_.str(), HasSubstr("step 30"));
  EXPECT_THAT(out_.str(), HasSubstr("/results/model.safetensors"));
}

TEST_F(WatchTest, TheSummaryHasTheMetricsAndTheMatrix) {
  v1::EpochCompleted& epoch = *Event().mutable_epoch_completed();
  epoch.set_test_loss(0.5);
  v1::MetricValue& f1 = *epoch.add_test_metrics();
  f1.set_name("f1_score");
  f1.set_value(0.625);
  v1::MetricValue& matrix = *epoch.add_test_metrics();
  matrix.set_name("confusion_matrix");
  for (const double count : {7, 1, 2, 9}) matrix.add_matrix(count);
  State(v1::JOB_STATE_SUCCEEDED, "");
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("test f1_score  0.6250\n"));
  EXPECT_THAT(out_.str(), HasSubstr("test samples by label (rows)"));
  EXPECT_THAT(out_.str(), HasSubstr("    1   2   9\n"));
}

TEST_F(WatchTest, ARestartGoesBackAndWarningsAreOneLine) {
  options_.width = 100;
  v1::Warning& warning = *Event().mutable_warning();
  warning.set_message("a checkpoint could not be saved:\nthe disk is full");
  State(v1::JOB_STATE_STARTING, "rank 1 died; starting 2 workers at step 10");
  v1::StepsCommitted& steps = *Event().mutable_steps_committed();
  steps.set_first_step(10);
  steps.set_end_step(20);
  steps.set_total_steps(30);
  steps.set_loss(0.25);
  State(v1::JOB_STATE_SUCCEEDED, "");
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kOk);
  EXPECT_THAT(err_.str(), HasSubstr("\x1b[2Kwarning: a checkpoint could not be saved: the disk is full\n"))
      << "with the progress line out of the way";
  EXPECT_THAT(err_.str(), HasSubstr("starting again: rank 1 died; starting 2 workers at step 10\n"));
  EXPECT_THAT(err_.str(), HasSubstr("step 20/30"));
  EXPECT_THAT(out_.str(), HasSubstr("step 20")) << "what was done again is drawn once";
  EXPECT_THAT(out_.str(), Not(HasSubstr("step 30")));
  EXPECT_THAT(out_.str(), Not(HasSubstr("warning")));
}

TEST_F(WatchTest, JsonIsOneEventALineAndEachOnce) {
  State(v1::JOB_STATE_SUCCEEDED, "");
  options_.json = true;
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kOk);
  for (size_t i = 1; i <= service_.events.size(); ++i) {
    const std::string sequence = absl::StrCat("\"sequence\":\"", i, "\"");
    const size_t at = out_.str().find(sequence);
    EXPECT_NE(at, std::string::npos) << sequence;
    EXPECT_EQ(out_.str().find(sequence, at + 1), std::string::npos);
  }
}

TEST_F(WatchTest, ExitStatusTellsHowTheJobEnded) {
  State(v1::JOB_STATE_FAILED, "rank 1 died");
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kJobFailed);
  EXPECT_THAT(err_.str(), HasSubstr("failed: rank 1 died"));
  EXPECT_EQ(WatchCommand(options_, "job-9", nullptr), kNotFound);
  EXPECT_THAT(err_.str(), HasSubstr("no job of this id"));
}

TEST_F(WatchTest, ACancelledJob) {
  State(v1::JOB_STATE_CANCELLED, "no longer needed");
  EXPECT_EQ(WatchCommand(options_, "job-1", nullptr), kJobCancelled);
}

TEST_F(WatchTest, ListFollowsThePages) {
  EXPECT_EQ(List(options_, 50, {}), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("job-2   running"));
  EXPECT_THAT(out_.str(), HasSubstr("job-1   running"));
  EXPECT_EQ(List(options_, 50, {"sleeping"}), kUsage);
}

TEST_F(WatchTest, EveryViolationOfARefusedJobIsShown) {
  const std::string path = testing::TempDir() + "/refused.yaml";
  std::FILE* file = std::fopen(path.c_str(), "w");
  std::fputs("seed: 13\n", file);
  std::fclose(file);
  EXPECT_EQ(Submit(options_, {.file = path}, nullptr), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("  training.epochs: must be at least 1"));
  std::remove(path.c_str());
}

TEST_F(WatchTest, NoServerIsAnErrorWithAHintWithinTheDeadline) {
  server_->Shutdown();
  options_.timeout = std::chrono::milliseconds(500);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(List(options_, 50, {}), kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
  EXPECT_THAT(err_.str(), HasSubstr("--server"));
}

}  // namespace
}  // namespace lockstep::cli
