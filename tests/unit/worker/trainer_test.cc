// SPDX-License-Identifier: Apache-2.0
// The promise, in one process: ranks are threads, and the trained bits are compared.
#include "worker/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "common/digest.h"
#include "common/rng.h"
#include "google/protobuf/util/json_util.h"
#include "worker/comm/communicator.h"

namespace lockstep {
namespace {

using v1::SessionRequest;

// Grants everything at once and keeps the reports.
class LocalLink final : public CoordinatorLink {
 public:
  absl::Status AwaitLease(int64_t step) override {
    if (step == stop_at) request_ = stop_kind;
    return absl::OkStatus();
  }
  StopRequest stop_request() const override { return request_; }
  void Report(SessionRequest report) override { reports.push_back(std::move(report)); }

  std::vector<SessionRequest> reports;
  int64_t stop_at = -1;
  StopRequest stop_kind = StopRequest::kStopWithCheckpoint;

 private:
  StopRequest request_ = StopRequest::kNone;
};

// Two noisy classes in eight numbers.
class BlobDataset final : public Dataset {
 public:
  explicit BlobDataset(int64_t samples) : features_(samples * 8), labels_(samples) {
    const RngStream stream{99, RngPurpose::kSynthetic, 0};
    for (int64_t i = 0; i < samples; ++i) {
      labels_[i] = static_cast<int32_t>(i % 2);
      for (int j = 0; j < 8; ++j) features_[i * 8 + j] = stream.Uniform(i * 8 + j) + 0.25f * labels_[i];
    }
    const int64_t test = samples / 4;
    train_ = Part(0, samples - test);
    test_ = Part(samples - test, test);
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return shape_; }

 private:
  DataTable Part(int64_t first, int64_t count) {
    return {.features = {features_.data() + first * 8, Shape{count, 8}, DType::kF32},
            .targets = {labels_.data() + first, Shape{count}, DType::kI32},
            .samples = count};
  }
  std::vector<float> features_;
  std::vector<int32_t> labels_;
  Shape shape_{8};
  DataTable train_, test_;
};

v1::JobSpec Spec() {
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"name": "blobs", "seed": 5,
          "model": {"layers": [{"dense": {"units": 16, "activation": "relu"}}, {"dropout": {"rate": 0.2}},
                               {"dense": {"units": 2}}]},
          "loss": {"sparse_categorical_crossentropy": {"from_logits": true}},
          "optimizer": {"adam": {"learning_rate": 0.01}},
          "training": {"batch_size": 24, "epochs": 3, "logical_shards": 4},
          "resources": {"workers": 4}})",
      &spec);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return spec;
}

JobPlan Plan(const v1::JobSpec& spec, const Dataset& dataset) {
  Violations violations;
  JobPlan plan;
  plan.dataset = {.sample = dataset.sample_shape(),
                  .train_samples = dataset.train().samples,
                  .test_samples = dataset.test().samples};
  plan.model = PlanModel(spec.model(), dataset.sample_shape(), violations);
  EXPECT_TRUE(violations.empty());
  plan.logical_shards = spec.training().logical_shards();
  plan.steps_per_epoch = (plan.dataset.train_samples + spec.training().batch_size() - 1) / spec.training().batch_size();
  plan.total_steps = plan.steps_per_epoch * spec.training().epochs();
  return plan;
}

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("lockstep-trainer-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  struct Run {
    std::string model_sha256;
    std::vector<SessionRequest> reports;
    Trainer::Result result;
  };

  Run Train(int ranks, const std::string& output, int64_t stop_at = -1, const std::string& resume = "",
            int64_t first_step = 0) {
    std::filesystem::create_directories(folder_ / output);
    auto group = MakeThreadGroup(ranks);
    std::vector<LocalLink> links(ranks);
    std::vector<Trainer::Result> results(ranks);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const BlobDataset dataset(1000);
        const SystemClock clock;
        auto device = MakeCpuDevice(1);
        // One rank alone hears of the stop; all must stop at the same step.
        if (rank == ranks - 1) links[rank].stop_at = stop_at;
        TrainerConfig config{.spec = Spec(),
                             .plan = Plan(Spec(), dataset),
                             .generation = 1,
                             .output_dir = folder_ / output,
                             .resume_checkpoint = resume,
                             .first_step = first_step};
        auto trainer =
            Trainer::Create(std::move(config), device.get(), group[rank].get(), &dataset, &links[rank], &clock);
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        const absl::StatusOr<Trainer::Result> result = (*trainer)->Run();
        ASSERT_TRUE(result.ok()) << result.status();
        results[rank] = *result;
      });
    }
    for (std::thread& t : threads) t.join();
    for (const Trainer::Result& result : results) EXPECT_EQ(result.step, results[0].step);
    Run run{.reports = links[0].reports, .result = results[0]};
    for (const SessionRequest& report : run.reports) {
      if (report.checkpoint_saved().final()) run.model_sha256 = report.checkpoint_saved().parameters_sha256();
    }
    return run;
  }

  std::filesystem::path folder_;
};

TEST_F(TrainerTest, AnyNumberOfRanksTrainsTheSameBits) {
  const Run one = Train(1, "one");
  EXPECT_EQ(one.model_sha256.size(), 64u);
  EXPECT_EQ(Sha256File(folder_ / "one" / "model.safetensors").value(), one.model_sha256);
  for (int ranks : {2, 3, 4}) {
    EXPECT_EQ(Train(ranks, std::to_string(ranks)).model_sha256, one.model_sha256) << ranks << " ranks";
  }
}

TEST_F(TrainerTest, ReportsEveryStepOnceAndEachEpochsBitsForAnyNumberOfRanks) {
  const Run one = Train(1, "one");
  const Run three = Train(3, "three");
  std::vector<std::string> epochs[2];
  int which = 0;
  for (const Run* run : {&one, &three}) {
    int64_t next = 0;
    for (const SessionRequest& report : run->reports) {
      if (report.has_commit_steps()) {
        EXPECT_EQ(report.commit_steps().steps().first_step(), next);
        next = report.commit_steps().steps().end_step();
      } else if (report.has_epoch_completed()) {
        v1::EpochCompleted epoch = report.epoch_completed();
        epoch.clear_epoch_seconds();
        epochs[which].push_back(epoch.SerializeAsString());
      }
    }
    EXPECT_EQ(next, run->result.step);
    ++which;
  }
  EXPECT_EQ(epochs[0].size(), 3u);
  EXPECT_EQ(epochs[0], epochs[1]);
}

TEST_F(TrainerTest, AStoppedRunGoesOnWithOtherRanksToTheSameBits) {
  const Run whole = Train(2, "whole");
  const Run first = Train(3, "parts", /*stop_at=*/41);
  EXPECT_FALSE(first.result.finished);
  EXPECT_EQ(first.result.step, 42);
  std::string checkpoint;
  for (const SessionRequest& report : first.reports) {
    if (report.has_checkpoint_saved()) checkpoint = report.checkpoint_saved().path();
  }
  ASSERT_FALSE(checkpoint.empty());
  const Run second = Train(2, "parts", -1, checkpoint, 42);
  EXPECT_TRUE(second.result.finished);
  EXPECT_EQ(second.model_sha256, whole.model_sha256);
  // The epoch in which it stopped is reported whole.
  const auto epoch_losses = [](const Run& run) {
    std::vector<double> losses;
    for (const SessionRequest& r : run.reports) {
      if (r.has_epoch_completed()) losses.push_back(r.epoch_completed().train_loss());
    }
    return losses;
  };
  EXPECT_EQ(epoch_losses(second).back(), epoch_losses(whole).back());
  EXPECT_EQ(epoch_losses(second).front(),
            epoch_losses(whole)[epoch_losses(whole).size() - epoch_losses(second).size()]);
}

TEST_F(TrainerTest, LearnsTheBlobs) {
  const Run run = Train(2, "learn");
  double accuracy = 0;
  for (const SessionRequest& report : run.reports) {
    if (report.has_epoch_completed()) accuracy = report.epoch_completed().test_accuracy();
  }
  EXPECT_GT(accuracy, 0.85);
}

TEST_F(TrainerTest, ADamagedCheckpointIsNamed) {
  const Run first = Train(1, "damaged", /*stop_at=*/41);
  const std::filesystem::path checkpoint = folder_ / "damaged" / "checkpoints" / "step-42";
  ASSERT_TRUE(std::filesystem::exists(checkpoint));
  {
    std::fstream file(checkpoint / "parameters.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  const BlobDataset dataset(1000);
  const SystemClock clock;
  auto device = MakeCpuDevice(1);
  auto communicator = MakeSingleCommunicator();
  LocalLink link;
  TrainerConfig config{
      .spec = Spec(), .plan = Plan(Spec(), dataset), .resume_checkpoint = checkpoint, .first_step = 42};
  const auto trainer = Trainer::Create(std::move(config), device.get(), communicator.get(), &dataset, &link, &clock);
  EXPECT_EQ(trainer.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(trainer.status().message()), ::testing::HasSubstr("parameters.safetensors"));
}

}  // namespace
}  // namespace lockstep
