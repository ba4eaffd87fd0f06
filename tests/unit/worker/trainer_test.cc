// SPDX-License-Identifier: Apache-2.0
// The promise, in one process: the trained bits are compared.
#include "worker/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/digest.h"
#include "tests/unit/worker/trainer_fixture.h"
#include "worker/train/failure.h"

namespace lockstep {
namespace {

TEST_F(TrainerTest, AnyNumberOfRanksTrainsTheSameBits) {
  const Outcome one = Train(1, "one");
  EXPECT_EQ(one.model_sha256.size(), 64u);
  EXPECT_EQ(Sha256File(folder_ / "one" / "model.safetensors").value(), one.model_sha256);
  for (int ranks : {2, 3, 4}) {
    EXPECT_EQ(Train(ranks, std::to_string(ranks)).model_sha256, one.model_sha256) << ranks << " ranks";
  }
}

TEST_F(TrainerTest, ReportsEveryStepOnceAndEachEpochsBitsForAnyNumberOfRanks) {
  const Outcome one = Train(1, "one");
  const Outcome three = Train(3, "three");
  for (const Outcome* run : {&one, &three}) {
    int64_t next = 0;
    for (const v1::SessionRequest& report : run->reports) {
      if (!report.has_commit_steps()) continue;
      EXPECT_EQ(report.commit_steps().steps().first_step(), next);
      next = report.commit_steps().steps().end_step();
    }
    EXPECT_EQ(next, run->result.step);
  }
  const auto epochs_of_one = Epochs(one), epochs_of_three = Epochs(three);
  ASSERT_EQ(epochs_of_one.size(), 3u);
  ASSERT_EQ(epochs_of_three.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(epochs_of_one[i].SerializeAsString(), epochs_of_three[i].SerializeAsString());
}

TEST_F(TrainerTest, AStoppedRunGoesOnWithOtherRanksToTheSameBits) {
  const Outcome whole = Train(2, "whole");
  const Outcome first = Train(3, "parts", {.stop_at = 41});
  EXPECT_FALSE(first.result.finished);
  EXPECT_EQ(first.result.step, 42);
  std::string checkpoint;
  for (const v1::SessionRequest& report : first.reports) {
    if (report.has_checkpoint_saved()) checkpoint = report.checkpoint_saved().path();
  }
  ASSERT_FALSE(checkpoint.empty());
  const Outcome second = Train(2, "parts", {.resume_checkpoint = checkpoint, .first_step = 42});
  EXPECT_TRUE(second.result.finished);
  EXPECT_EQ(second.model_sha256, whole.model_sha256);
  // The epoch in which it stopped is reported whole.
  const auto all = Epochs(whole), rest = Epochs(second);
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].SerializeAsString(), all[1].SerializeAsString());
  EXPECT_EQ(rest[1].SerializeAsString(), all[2].SerializeAsString());
}

TEST_F(TrainerTest, TheFastestSumTrainsAsWell) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_reduction(v1::REDUCTION_FASTEST);
  const Outcome canonical = Train(1, "canonical");
  for (const int ranks : {1, 2, 3}) {
    const Outcome fastest = Train(ranks, std::to_string(ranks), {.spec = spec});
    ASSERT_TRUE(fastest.status.ok()) << fastest.status;
    ASSERT_EQ(Epochs(fastest).size(), Epochs(canonical).size());
    // Another order of the same sums.
    EXPECT_NEAR(Epochs(fastest).back().train_loss(), Epochs(canonical).back().train_loss(), 1e-3);
  }
}

TEST_F(TrainerTest, LearnsTheBlobs) {
  const Outcome run = Train(2, "learn");
  EXPECT_GT(Epochs(run).back().test_accuracy(), 0.85);
}

TEST_F(TrainerTest, ADamagedCheckpointIsNamed) {
  const Outcome first = Train(1, "damaged", {.stop_at = 41});
  const std::filesystem::path checkpoint = folder_ / "damaged" / "checkpoints" / "step-42";
  ASSERT_TRUE(std::filesystem::exists(checkpoint));
  {
    std::fstream file(checkpoint / "parameters.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  const Outcome second = Train(1, "damaged", {.resume_checkpoint = checkpoint, .first_step = 42});
  EXPECT_EQ(second.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(IsResumeUnusable(second.status));
  EXPECT_THAT(std::string(second.status.message()), ::testing::HasSubstr("parameters.safetensors"));
}

}  // namespace
}  // namespace lockstep
