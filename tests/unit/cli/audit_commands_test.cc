// SPDX-License-Identifier: Apache-2.0
// The commands that scale, resume and prove, against a server of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/training_service.grpc.pb.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

const grpc::Status kNoJob(grpc::StatusCode::NOT_FOUND, "no job of this id");

// Jobs, ledgers, checkpoints and digests as the test sets them; a submitted job is called "replay-1".
class FakeService final : public v1::TrainingService::Service {
 public:
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request, v1::GetJobResponse* response) override {
    if (!jobs.contains(request->job_id())) return kNoJob;
    *response->mutable_job() = jobs[request->job_id()];
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*, v1::ListJobsResponse* response) override {
    for (const auto& [id, job] : jobs) *response->add_jobs() = job;
    return grpc::Status::OK;
  }
  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                         v1::SubmitJobResponse* response) override {
    submitted.push_back(request->spec());
    response->mutable_job()->set_job_id("replay-1");
    jobs["replay-1"].set_job_id("replay-1");
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    for (int64_t sequence = request->after_sequence() + 1; sequence <= last_sequence; ++sequence) {
      v1::WatchJobResponse response;
      response.mutable_event()->set_sequence(sequence);
      response.mutable_event()->mutable_state_changed()->set_state(outcome);
      response.mutable_event()->mutable_state_changed()->set_reason(absl::StrCat("event ", sequence));
      writer->Write(response);
    }
    return grpc::Status::OK;
  }
  grpc::Status ScaleJob(grpc::ServerContext*, const v1::ScaleJobRequest* request,
                        v1::ScaleJobResponse* response) override {
    if (!jobs.contains(request->job_id())) return kNoJob;
    jobs[request->job_id()].set_workers(request->workers());
    *response->mutable_job() = jobs[request->job_id()];
    return grpc::Status::OK;
  }
  grpc::Status ResumeJob(grpc::ServerContext*, const v1::ResumeJobRequest* request,
                         v1::ResumeJobResponse* response) override {
    if (!jobs.contains(request->job_id())) return kNoJob;
    resumed.push_back(*request);
    last_sequence += 2;
    *response->mutable_job() = jobs[request->job_id()];
    return grpc::Status::OK;
  }
  grpc::Status ListCheckpoints(grpc::ServerContext*, const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    if (!jobs.contains(request->job_id())) return kNoJob;
    for (const int64_t step : checkpoints) {
      v1::CheckpointInfo& info = *response->add_checkpoints();
      info.set_step(step);
      info.set_path(absl::StrCat("/checkpoints/step-", step));
      info.set_bytes(4096);
    }
    return grpc::Status::OK;
  }
  grpc::Status ListLedger(grpc::ServerContext*, const v1::ListLedgerRequest*,
                          v1::ListLedgerResponse* response) override {
    *response = ledger;
    return grpc::Status::OK;
  }
  grpc::Status ListDigests(grpc::ServerContext*, const v1::ListDigestsRequest* request,
                           v1::ListDigestsResponse* response) override {
    ++digest_calls;
    if (!jobs.contains(request->job_id())) return kNoJob;
    const auto& all = digests[request->job_id()];
    // Small pages.
    for (auto it = all.upper_bound(request->after_step()); it != all.end() && response->digests_size() < 3; ++it) {
      v1::RecordedDigest& digest = *response->add_digests();
      digest.set_step(it->first);
      digest.set_digest(it->second);
    }
    return grpc::Status::OK;
  }

  std::map<std::string, v1::Job> jobs;
  std::map<std::string, std::map<int64_t, std::string>> digests;
  std::vector<int64_t> checkpoints;
  v1::ListLedgerResponse ledger;
  std::vector<v1::JobSpec> submitted;
  std::vector<v1::ResumeJobRequest> resumed;
  v1::JobState outcome = v1::JOB_STATE_SUCCEEDED;
  int64_t last_sequence = 3;
  int digest_calls = 0;
};

class AuditCommandsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    options_ = {.server = absl::StrCat("127.0.0.1:", port), .out = &out_, .err = &err_};
    v1::Job& job = AddJob("job-1");
    job.mutable_spec()->set_name("job");
    job.mutable_spec()->set_seed(9);
    job.mutable_spec()->mutable_resources()->set_workers(2);
    job.set_workers(4);
    job.mutable_end_time()->set_seconds(1);
    job.mutable_progress()->set_step(100);
    for (int64_t step = 10; step <= 100; step += 10) service_.digests["job-1"][step] = absl::StrCat("d", step);
    service_.checkpoints = {20, 40, 60};
    service_.ledger.set_total_steps(100);
    service_.ledger.set_steps_per_epoch(50);
    service_.ledger.set_batch_size(8);
    service_.ledger.set_train_samples(400);
    AddEntry(1, 0, 60, false);
    AddEntry(2, 60, 100, false);
  }
  v1::Job& AddJob(const std::string& id) {
    v1::Job& job = service_.jobs[id];
    job.set_job_id(id);
    job.set_state(v1::JOB_STATE_SUCCEEDED);
    return job;
  }
  void AddEntry(int64_t generation, int64_t first, int64_t end, bool voided) {
    v1::LedgerEntry& entry = *service_.ledger.add_entries();
    entry.set_generation(generation);
    entry.set_first_step(first);
    entry.set_end_step(end);
    entry.set_voided(voided);
  }

  FakeService service_;
  std::unique_ptr<grpc::Server> server_;
  std::ostringstream out_, err_;
  Options options_;
};

TEST_F(AuditCommandsTest, AuditSaysWhatIsProven) {
  EXPECT_EQ(Audit(options_, "job-1"), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("steps        0 to 100 of 100"));
  EXPECT_THAT(out_.str(), HasSubstr("epochs       2 of 2"));
  EXPECT_THAT(out_.str(), HasSubstr("samples      800"));
  EXPECT_THAT(out_.str(), HasSubstr("each sample exactly once in each epoch"));
  EXPECT_EQ(Audit(options_, "job-9"), kNotFound);
}

TEST_F(AuditCommandsTest, AuditOfARunningJobSaysHowFar) {
  service_.jobs["job-1"].set_state(v1::JOB_STATE_RUNNING);
  service_.ledger.mutable_entries(1)->set_end_step(70);
  EXPECT_EQ(Audit(options_, "job-1"), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("so far each step counts exactly once: 70 of 100"));
}

TEST_F(AuditCommandsTest, AuditNamesWhatIsWrong) {
  service_.ledger.mutable_entries(1)->set_first_step(61);
  EXPECT_EQ(Audit(options_, "job-1"), kDiffers);
  EXPECT_THAT(out_.str(), HasSubstr("wrong        step 60 missing"));
  out_.str("");
  options_.json = true;
  EXPECT_EQ(Audit(options_, "job-1"), kDiffers);
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["complete"], false);
  EXPECT_EQ(json["endStep"], 60);
  EXPECT_EQ(json["problems"].size(), 1u);
}

TEST_F(AuditCommandsTest, DiffWalksAllPages) {
  AddJob("job-2");
  service_.digests["job-2"] = service_.digests["job-1"];
  EXPECT_EQ(Diff(options_, "job-1", "job-2"), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("equal at all 10 common steps, 10 to 100"));
  EXPECT_GE(service_.digest_calls, 8);
  out_.str("");
  service_.digests["job-2"][90] = "other";
  EXPECT_EQ(Diff(options_, "job-1", "job-2"), kDiffers);
  EXPECT_THAT(out_.str(), HasSubstr("they part at step 90; equal at step 80"));
  out_.str("");
  options_.json = true;
  EXPECT_EQ(Diff(options_, "job-1", "job-2"), kDiffers);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["difference"]["step"], 90);
  EXPECT_EQ(Diff(options_, "job-1", "job-9"), kNotFound);
}

TEST_F(AuditCommandsTest, DiffWithoutACommonStepProvesNothing) {
  AddJob("job-2");
  service_.digests["job-2"][15] = "d15";
  EXPECT_EQ(Diff(options_, "job-1", "job-2"), kDiffers);
  EXPECT_THAT(out_.str(), HasSubstr("there is no step at which both have a digest"));
}

TEST_F(AuditCommandsTest, VerifyReplaysFromTheNewestCheckpointBefore) {
  service_.digests["replay-1"] = {{50, "d50"}, {60, "d60"}, {70, "d70"}};
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "55..75", .workers = 1}, nullptr), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("equal at all 2 common steps, 60 to 70"));
  ASSERT_EQ(service_.submitted.size(), 1u);
  const v1::JobSpec& spec = service_.submitted[0];
  EXPECT_EQ(spec.name(), "verify-job");
  EXPECT_EQ(spec.seed(), 9u);
  EXPECT_EQ(spec.resources().workers(), 1);
  EXPECT_EQ(spec.replay().job_id(), "job-1");
  EXPECT_EQ(spec.replay().from_step(), 40);
  EXPECT_EQ(spec.replay().until_step(), 75);
  service_.digests["replay-1"][70] = "other";
  out_.str("");
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "55..75"}, nullptr), kDiffers);
  EXPECT_THAT(out_.str(), HasSubstr("they part at step 70; equal at step 60"));
  EXPECT_EQ(service_.submitted[1].resources().workers(), 4) << "as many as the job has now";
}

TEST_F(AuditCommandsTest, VerifyFromTheBeginning) {
  service_.digests["replay-1"] = {{10, "d10"}};
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "0..15"}, nullptr), kOk);
  EXPECT_EQ(service_.submitted[0].replay().from_step(), 0);
}

TEST_F(AuditCommandsTest, VerifyThatCannotProveAnythingFailsAndSaysWhy) {
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "11..19"}, nullptr), kDiffers);
  EXPECT_THAT(err_.str(), HasSubstr("has no digest in steps 11 to 19"));
  // The place it begins at is not computed again.
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "20..25"}, nullptr), kDiffers);
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "90..110"}, nullptr), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("has done 100 steps"));
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "5"}, nullptr), kUsage);
  EXPECT_TRUE(service_.submitted.empty());
  service_.outcome = v1::JOB_STATE_FAILED;
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "55..75"}, nullptr), kDiffers);
  EXPECT_THAT(err_.str(), HasSubstr("did not succeed, so nothing is proven"));
  service_.outcome = v1::JOB_STATE_SUCCEEDED;
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "55..75"}, nullptr), kDiffers) << "no digest came of it";
}

TEST_F(AuditCommandsTest, VerifyRefusesWhatPromisesNothing) {
  service_.jobs["job-1"].mutable_spec()->mutable_training()->set_reduction(v1::REDUCTION_FASTEST);
  EXPECT_EQ(Verify(options_, {.job = "job-1", .steps = "55..75"}, nullptr), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("does not promise the same bits"));
  EXPECT_TRUE(service_.submitted.empty());
}

TEST_F(AuditCommandsTest, ScaleAndCheckpoints) {
  EXPECT_EQ(Scale(options_, "job-1", 3), kOk);
  EXPECT_EQ(service_.jobs["job-1"].workers(), 3);
  EXPECT_THAT(out_.str(), HasSubstr("job-1 is to have 3 workers"));
  EXPECT_EQ(Scale(options_, "job-9", 3), kNotFound);
  EXPECT_EQ(Checkpoints(options_, "job-1"), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("40     checkpoint   0            4096    /checkpoints/step-40"));
}

TEST_F(AuditCommandsTest, ResumeWatchesWhatIsNew) {
  EXPECT_EQ(Resume(options_, {.job = "job-1", .from_step = 40, .watch = true}, nullptr), kOk);
  ASSERT_EQ(service_.resumed.size(), 1u);
  EXPECT_EQ(service_.resumed[0].from_step(), 40);
  EXPECT_THAT(err_.str(), HasSubstr("event 4"));
  EXPECT_THAT(err_.str(), ::testing::Not(HasSubstr("event 3")));
  EXPECT_EQ(Resume(options_, {.job = "job-1"}, nullptr), kOk);
  EXPECT_FALSE(service_.resumed[1].has_from_step());
  EXPECT_EQ(Resume(options_, {.job = "job-9"}, nullptr), kNotFound);
}

TEST_F(AuditCommandsTest, ShowAndListKnowWorkersAndRestarts) {
  EXPECT_EQ(List(options_, 10, {}), kOk);
  EXPECT_THAT(out_.str(), ::testing::Not(HasSubstr("RESTARTS")));
  service_.jobs["job-1"].set_restarts(2);
  EXPECT_EQ(Show(options_, "job-1"), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("workers      4\n"));
  EXPECT_THAT(out_.str(), HasSubstr("restarts     2\n"));
  EXPECT_EQ(List(options_, 10, {}), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("RESTARTS"));
}

}  // namespace
}  // namespace lockstep::cli
