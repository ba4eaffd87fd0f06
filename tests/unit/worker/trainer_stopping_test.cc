// SPDX-License-Identifier: Apache-2.0
// What is decided by an epoch's values: early stopping, the best weights, the rate on a plateau. All ranks
// decide the same, and so does a job that was resumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/unit/worker/trainer_fixture.h"
#include "worker/train/epoch_judge.h"

namespace lockstep {
namespace {

constexpr int64_t kEpochSteps = 32;

v1::JobSpec With(const std::string& json, int64_t epochs = 8) {
  v1::JobSpec spec = BlobSpec();
  v1::JobSpec more;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &more);
  EXPECT_TRUE(status.ok()) << json << status.ToString();
  if (more.has_optimizer()) spec.clear_optimizer();
  spec.MergeFrom(more);
  spec.mutable_training()->set_epochs(epochs);
  return spec;
}

using StoppingTest = TrainerTest;

// A loss that only grows: the first epoch is the best, and after two more it is over. The loss of a rate as
// large as this goes up and down; MAX makes each fall one that is not better.
const char kStops[] = R"({"optimizer": {"sgd": {"learning_rate": 0.02}},
    "training": {"early_stopping": {"monitor": {"metric": "test_loss", "mode": "MONITOR_MODE_MAX"}, "patience": 2}}})";

TEST_F(StoppingTest, StopsWhereTheValueDoesNotGetBetterOnEveryNumberOfRanks) {
  for (const int ranks : {1, 3}) {
    const Outcome run = Train(ranks, std::to_string(ranks), {.spec = With(kStops)});
    ASSERT_TRUE(run.status.ok()) << run.status;
    EXPECT_TRUE(run.result.finished);
    EXPECT_EQ(run.result.step, 3 * kEpochSteps);
    const auto epochs = Epochs(run);
    ASSERT_EQ(epochs.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(epochs[i].stopped_early(), i == 2);
      EXPECT_LE(epochs[i].test_loss(), epochs[0].test_loss());
    }
    EXPECT_EQ(run.model_sha256.size(), 64u);
    // Steps after the stop are not committed.
    for (const v1::SessionRequest& report : run.reports) {
      EXPECT_LE(report.commit_steps().steps().end_step(), 3 * kEpochSteps);
    }
  }
}

TEST_F(StoppingTest, TheModelIsTheSameAsThatOfAJobOfSoManyEpochs) {
  v1::JobSpec shorter = With(kStops, 3);
  shorter.mutable_training()->clear_early_stopping();
  EXPECT_EQ(Train(2, "stopped", {.spec = With(kStops)}).model_sha256,
            Train(2, "short", {.spec = shorter}).model_sha256);
}

TEST_F(StoppingTest, TheLastEpochIsNotAnEarlyStop) {
  const Outcome run = Train(1, "last", {.spec = With(kStops, 3)});
  ASSERT_EQ(Epochs(run).size(), 3u);
  EXPECT_FALSE(Epochs(run)[2].stopped_early());
  EXPECT_EQ(run.result.step, 3 * kEpochSteps);
}

TEST_F(StoppingTest, RestoresTheBestEpoch) {
  const auto model = [&](const std::string& name, const v1::JobSpec& spec) {
    EXPECT_TRUE(Train(2, name, {.spec = spec}).result.finished);
    return Values(folder_ / name / "model.safetensors", "");
  };
  v1::JobSpec spec = With(kStops);
  spec.mutable_training()->mutable_early_stopping()->set_restore_best(true);
  v1::JobSpec first = With(kStops, 1);
  first.mutable_training()->clear_early_stopping();
  const auto one = model("first", first);
  ASSERT_FALSE(one.empty());
  EXPECT_EQ(model("best", spec), one);
  // Also where training is not stopped.
  spec.mutable_training()->set_epochs(2);
  EXPECT_EQ(model("two", spec), one);
  // And of the averages.
  spec.mutable_optimizer()->set_use_ema(true);
  *first.mutable_optimizer() = spec.optimizer();
  const auto average = model("average-first", first);
  EXPECT_NE(average, one);
  EXPECT_EQ(model("average", spec), average);
}

// Stopped by the coordinator and resumed elsewhere, at any time: it decides as if nothing had happened.
TEST_F(StoppingTest, AResumedJobStopsAtTheSameStepWithTheSameBits) {
  v1::JobSpec spec = With(kStops);
  spec.mutable_training()->mutable_early_stopping()->set_restore_best(true);
  const Outcome whole = Train(2, "whole", {.spec = spec});
  for (const int64_t stop_at : {kEpochSteps - 1, kEpochSteps + 8, 2 * kEpochSteps - 1, 3 * kEpochSteps - 2}) {
    const std::string name = "parts" + std::to_string(stop_at);
    Train(3, name, {.stop_at = stop_at, .spec = spec});
    const std::string checkpoint = folder_ / name / "checkpoints" / ("step-" + std::to_string(stop_at + 1));
    ASSERT_TRUE(std::filesystem::exists(checkpoint)) << checkpoint;
    const Outcome rest = Train(1, name, {.resume_checkpoint = checkpoint, .first_step = stop_at + 1, .spec = spec});
    ASSERT_TRUE(rest.status.ok()) << rest.status;
    EXPECT_TRUE(rest.result.finished);
    EXPECT_EQ(rest.result.step, whole.result.step) << stop_at;
    EXPECT_EQ(rest.model_sha256, whole.model_sha256) << stop_at;
    EXPECT_EQ(Epochs(rest).back().SerializeAsString(), Epochs(whole).back().SerializeAsString()) << stop_at;
  }
}

// The group dies after the last commit and before the model is stored: the next one starts from the snapshot
// of the very step, and does the epoch's end again.
TEST_F(StoppingTest, ASnapshotOfTheLastStepEndsInTheSame) {
  const v1::JobSpec spec = With(kStops);
  const Outcome whole = Train(1, "whole", {.spec = spec});
  const std::string snapshot = folder_ / "snapshot";
  Train(1, "first", {.snapshot_path = snapshot, .spec = spec});
  const Outcome again = Train(2, "again", {.resume_snapshot = snapshot, .first_step = 3 * kEpochSteps, .spec = spec});
  ASSERT_TRUE(again.status.ok()) << again.status;
  EXPECT_TRUE(again.result.finished);
  EXPECT_EQ(again.model_sha256, whole.model_sha256);
  ASSERT_EQ(Epochs(again).size(), 1u);
  EXPECT_TRUE(Epochs(again)[0].stopped_early());
}

TEST_F(StoppingTest, TheRateFallsOnAPlateauAndStaysSoAfterAResume) {
  const v1::JobSpec spec = With(R"({"optimizer": {"sgd": {"learning_rate": 0.02}},
      "schedule": {"reduce_on_plateau": {"monitor": {"metric": "test_loss", "mode": "MONITOR_MODE_MAX"}, "patience": 1,
                                         "factor": 0.5, "cooldown": 1}}})",
                                6);
  const Outcome whole = Train(2, "whole", {.spec = spec});
  std::vector<double> rates;
  for (const v1::EpochCompleted& epoch : Epochs(whole)) rates.push_back(epoch.learning_rate());
  // Epoch 2 is not better than epoch 1; epoch 3 does not count; epoch 4 is not better either.
  EXPECT_THAT(rates, testing::ElementsAre(0.02, 0.02, 0.01, 0.01, 0.005, 0.005));
  Train(1, "parts", {.stop_at = 2 * kEpochSteps + 5, .spec = spec});
  const std::string checkpoint = folder_ / "parts" / "checkpoints" / ("step-" + std::to_string(2 * kEpochSteps + 6));
  const Outcome rest =
      Train(3, "parts", {.resume_checkpoint = checkpoint, .first_step = 2 * kEpochSteps + 6, .spec = spec});
  EXPECT_EQ(rest.model_sha256, whole.model_sha256);
}

TEST_F(StoppingTest, TheBestCheckpointIsBestByWhatWasAsked) {
  // The best of MAX is the first; without that it would be the newest, as the loss falls.
  v1::JobSpec spec = With(R"({"optimizer": {"sgd": {"learning_rate": 0.02}},
      "training": {"keep_checkpoints": 1, "keep_best": {"metric": "train_loss", "mode": "MONITOR_MODE_MAX"}}})",
                          5);
  Train(1, "kept", {.spec = spec});
  std::vector<std::string> kept;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "kept" / "checkpoints")) {
    kept.push_back(entry.path().filename());
  }
  std::ranges::sort(kept);
  EXPECT_THAT(kept, testing::ElementsAre("step-128", "step-32"));
}

EpochScores Loss(double value) { return {.train = {.loss = value}, .test = std::nullopt}; }

TEST(EpochJudgeTest, PatienceOfZeroIsOneEpoch) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_early_stopping();
  const EpochJudge judge(spec, false);
  std::vector<double> state = EpochJudge::InitialState();
  EXPECT_FALSE(EpochJudge::HasBest(state));
  const Verdict first = judge.Observe(Loss(1), state);
  EXPECT_TRUE(first.best);
  EXPECT_FALSE(first.stop);
  EXPECT_EQ(first.score, -1);
  EXPECT_TRUE(EpochJudge::HasBest(state));
  EXPECT_TRUE(judge.Observe(Loss(1), state).stop);
}

TEST(EpochJudgeTest, WithoutWishesItOnlyScores) {
  const EpochJudge judge({}, false);
  std::vector<double> state = EpochJudge::InitialState();
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(judge.Observe(Loss(i), state).stop);
  EXPECT_EQ(state, EpochJudge::InitialState());
  EXPECT_EQ(EpochJudge::Reductions(state), 0);
}

}  // namespace
}  // namespace lockstep
