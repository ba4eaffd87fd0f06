// SPDX-License-Identifier: Apache-2.0
// Going on from where a group was, and what is caught before it does harm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "tests/unit/worker/trainer_fixture.h"
#include "worker/train/failure.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

TEST_F(TrainerTest, ASnapshotIsAsGoodAsNoInterruption) {
  const Outcome whole = Train(2, "whole");
  // In mid-epoch, and after an epoch's last step but before its evaluation.
  for (const int64_t stop_at : {int64_t{10}, int64_t{41}, int64_t{63}}) {
    const std::string name = std::to_string(stop_at), path = folder_ / ("snapshot-" + name);
    const Outcome first = Train(3, name, {.stop_at = stop_at, .stop_kind = StopRequest::kStop, .snapshot_path = path});
    ASSERT_EQ(first.result.step, stop_at + 1);
    const Outcome second =
        Train(1, name, {.resume_snapshot = path, .first_step = stop_at + 1, .snapshot_path = path + "-next"});
    ASSERT_TRUE(second.status.ok()) << second.status;
    EXPECT_EQ(second.model_sha256, whole.model_sha256) << "stopped after step " << stop_at;
    EXPECT_EQ(Epochs(second).back().SerializeAsString(), Epochs(whole).back().SerializeAsString());
  }
}

TEST_F(TrainerTest, AnEpochThatWasNotEvaluatedIsEvaluatedByTheNextGroup) {
  const Outcome whole = Train(2, "whole");
  const std::string path = folder_ / "snapshot";
  // Dies right after the commit of the epoch's last step.
  std::ofstream(folder_ / "failpoints") << "commit.after error rank=0\n";
  const Outcome first = Train(1, "parts", {.snapshot_path = path, .failpoints = folder_ / "failpoints"});
  ASSERT_FALSE(first.status.ok());
  ASSERT_TRUE(first.reports.back().has_commit_steps());
  const int64_t step = first.reports.back().commit_steps().steps().end_step();
  ASSERT_EQ(step, 32) << "an epoch takes less than a commit's interval here";
  EXPECT_TRUE(Epochs(first).empty());
  const Outcome second = Train(2, "parts", {.resume_snapshot = path, .first_step = step});
  ASSERT_EQ(Epochs(second).size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Epochs(second)[i].SerializeAsString(), Epochs(whole)[i].SerializeAsString());
  }
  EXPECT_EQ(second.model_sha256, whole.model_sha256);
}

// Every report that tells of a snapshot is kept to its word.
TEST_F(TrainerTest, ASnapshotThatTheCoordinatorMayNeedIsNotOverwritten) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_epochs(8);
  // The coordinator is away from the start, or after it got one report that it never acknowledged.
  for (const int64_t sends : {int64_t{0}, int64_t{1}}) {
    const std::string name = std::to_string(sends), path = folder_ / ("snapshot-" + name);
    const Outcome first = Train(2, name, {.snapshot_path = path, .acknowledges = false, .sends = sends, .spec = spec});
    ASSERT_TRUE(first.status.ok()) << first.status;
    std::vector<int64_t> kept;
    for (const v1::SessionRequest& report : first.reports) {
      if (report.commit_steps().snapshot()) kept.push_back(report.commit_steps().steps().end_step());
    }
    ASSERT_FALSE(kept.empty());
    EXPECT_LE(kept.size(), 3u);
    EXPECT_EQ(kept.back(), 256) << "the newest state is always there";
    if (sends == 1) {
      EXPECT_EQ(kept.front(), 32) << "what may be known of stays";
    }
    for (const int64_t step : kept) {
      const Outcome second = Train(2, "after", {.resume_snapshot = path, .first_step = step, .spec = spec});
      EXPECT_EQ(second.model_sha256, first.model_sha256) << "from step " << step;
    }
  }
}

TEST_F(TrainerTest, ASnapshotOfAnotherStepOrDamagedIsRefused) {
  const std::string path = folder_ / "snapshot";
  const Outcome first = Train(2, "first", {.stop_at = 41, .stop_kind = StopRequest::kStop, .snapshot_path = path});
  const Outcome wrong = Train(2, "wrong", {.resume_snapshot = path, .first_step = 41});
  EXPECT_TRUE(IsResumeUnusable(wrong.status)) << wrong.status;
  const Outcome none = Train(1, "none", {.resume_snapshot = path + "-none", .first_step = 42});
  EXPECT_TRUE(IsResumeUnusable(none.status)) << none.status;
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  // Somewhere in each slot.
  const auto slot_bytes = static_cast<int64_t>(std::filesystem::file_size(path) - 4096) / 3;
  for (int slot = 0; slot < 3; ++slot) {
    const int64_t at = 4096 + slot * slot_bytes + 100;
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(at);
    file.put(byte);
  }
  file.close();
  const Outcome damaged = Train(1, "damaged", {.resume_snapshot = path, .first_step = 42});
  EXPECT_TRUE(IsResumeUnusable(damaged.status)) << damaged.status;
}

TEST_F(TrainerTest, DigestsAreTheSameOnAllRanksAndForAnyNumberOfThem) {
  std::map<int64_t, std::set<std::string>> digests;
  for (int ranks : {1, 3}) {
    const Outcome run = Train(ranks, std::to_string(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      std::set<int64_t> steps;
      for (const v1::SessionRequest& report : run.reports_of_rank[rank]) {
        const auto& some = rank == 0 ? report.commit_steps().digests() : report.digest_report().digests();
        for (const v1::StepDigest& digest : some) {
          digests[digest.step()].insert(digest.digest());
          EXPECT_TRUE(steps.insert(digest.step()).second) << digest.step();
        }
      }
      EXPECT_EQ(steps, (std::set<int64_t>{10, 20, 30, 32, 40, 50, 60, 64, 70, 80, 90, 96}));
    }
  }
  for (const auto& [step, different] : digests) EXPECT_EQ(different.size(), 1u) << "step " << step;
}

TEST_F(TrainerTest, ASilentlyFlippedBitShowsInThatRanksDigest) {
  std::ofstream(folder_ / "failpoints") << "memory.flip error rank=1 hit=15\n";
  const Outcome run = Train(3, "flipped", {.failpoints = folder_ / "failpoints"});
  std::map<int64_t, std::vector<std::string>> digests;
  for (int rank = 0; rank < 3; ++rank) {
    for (const v1::SessionRequest& report : run.reports_of_rank[rank]) {
      const auto& some = rank == 0 ? report.commit_steps().digests() : report.digest_report().digests();
      for (const v1::StepDigest& digest : some) digests[digest.step()].push_back(digest.digest());
    }
  }
  EXPECT_EQ(digests[10][1], digests[10][0]);
  EXPECT_NE(digests[20][1], digests[20][0]);
  EXPECT_EQ(digests[20][2], digests[20][0]);
}

TEST_F(TrainerTest, RanksThatStartAtDifferentStepsDoNotTrain) {
  const Outcome run = Train(3, "mixed", {.first_step_of_rank_0 = 32});
  EXPECT_EQ(run.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("step 32"));
  EXPECT_TRUE(run.reports.empty());
}

TEST_F(TrainerTest, AStepThatIsNotFiniteIsNotAppliedAndFailsTheJob) {
  const Outcome run = Train(2, "fail", {.poisoned = true});
  EXPECT_EQ(run.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(IsPermanent(run.status));
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("not a finite number in step "));
}

TEST_F(TrainerTest, StepsThatAreNotFiniteAreSkippedWithTheSameBitsForAnyNumberOfRanks) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_SKIP_STEP);
  const Outcome one = Train(1, "one", {.poisoned = true, .spec = spec});
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_EQ(Train(3, "three", {.poisoned = true, .spec = spec}).model_sha256, one.model_sha256);
  EXPECT_NE(Train(1, "clean", {.spec = spec}).model_sha256, one.model_sha256);
  ASSERT_FALSE(Warnings(one).empty());
  EXPECT_EQ(Warnings(one)[0].kind(), v1::WARNING_KIND_NON_FINITE);
  EXPECT_GT(Epochs(one).back().test_accuracy(), 0.85);
}

TEST_F(TrainerTest, ARollBackGoesToTheNewestCheckpointAlsoAcrossRestarts) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_ROLL_BACK);
  spec.mutable_training()->set_checkpoint_interval_steps(7);
  const Outcome whole = Train(1, "whole", {.poisoned = true, .spec = spec});
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  ASSERT_FALSE(Warnings(whole).empty());
  EXPECT_EQ(Train(4, "four", {.poisoned = true, .spec = spec}).model_sha256, whole.model_sha256);
  v1::JobSpec skips = spec;
  skips.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_SKIP_STEP);
  EXPECT_NE(Train(1, "skips", {.poisoned = true, .spec = skips}).model_sha256, whole.model_sha256);
  // Between two checkpoints: the next group must go back to the same one.
  for (const int64_t stop_at : {int64_t{3}, int64_t{33}, int64_t{68}}) {
    const std::string name = std::to_string(stop_at), path = folder_ / ("snapshot-" + name);
    Train(2, name,
          {.stop_at = stop_at, .stop_kind = StopRequest::kStop, .snapshot_path = path, .poisoned = true, .spec = spec});
    const Outcome second =
        Train(3, name, {.resume_snapshot = path, .first_step = stop_at + 1, .poisoned = true, .spec = spec});
    ASSERT_TRUE(second.status.ok()) << second.status;
    EXPECT_EQ(second.model_sha256, whole.model_sha256) << "stopped after step " << stop_at;
  }
}

TEST_F(TrainerTest, TheNewestCheckpointsAndTheBestOneAreKept) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_epochs(8);
  spec.mutable_training()->set_keep_checkpoints(2);
  const Outcome run = Train(2, "keep", {.spec = spec});
  const auto epochs = Epochs(run);
  // The last epoch ends in the model, not in a checkpoint.
  size_t best = 0;
  for (size_t i = 0; i + 1 < epochs.size(); ++i) {
    if (epochs[i].test_loss() < epochs[best].test_loss()) best = i;
  }
  std::set<std::string> expected{"step-" + std::to_string(32 * (best + 1)), "step-192", "step-224"};
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "keep" / "checkpoints")) {
    found.insert(entry.path().filename());
  }
  EXPECT_EQ(found, expected);
}

TEST_F(TrainerTest, ADiskThatFailsLeavesTrainingRunningAndIsReported) {
  const Outcome whole = Train(2, "whole");
  std::filesystem::create_directories(folder_ / "failing");
  // No folder can be made where a file is.
  std::ofstream(folder_ / "failing" / "checkpoints") << "in the way";
  const Outcome run = Train(2, "failing");
  ASSERT_TRUE(run.status.ok()) << run.status;
  EXPECT_EQ(run.model_sha256, whole.model_sha256);
  ASSERT_FALSE(Warnings(run).empty());
  EXPECT_EQ(Warnings(run)[0].kind(), v1::WARNING_KIND_CHECKPOINT_FAILED);
}

TEST_F(TrainerTest, WithoutSharedMemoryTrainingGoesOnWithoutSnapshots) {
  const Outcome run = Train(2, "none", {.snapshot_path = folder_ / "no-such-folder" / "snapshot"});
  ASSERT_TRUE(run.status.ok()) << run.status;
  ASSERT_FALSE(Warnings(run).empty());
  EXPECT_THAT(Warnings(run)[0].message(), HasSubstr("goes on from a checkpoint"));
}

// A save that fails at any of its stages leaves the checkpoints that were there as they are.
TEST_F(TrainerTest, EachStageOfACheckpointMayFail) {
  for (const std::string stage : {"begin", "parameters", "optimizer", "manifest"}) {
    std::ofstream(folder_ / ("failpoints-" + stage)) << "checkpoint." << stage << " error hit=2\n";
    const Outcome run = Train(1, stage, {.failpoints = folder_ / ("failpoints-" + stage)});
    ASSERT_TRUE(run.status.ok()) << run.status;
    std::vector<int64_t> saved;
    for (const v1::SessionRequest& report : run.reports) {
      if (report.has_checkpoint_saved() && !report.checkpoint_saved().final()) {
        saved.push_back(report.checkpoint_saved().step());
      }
    }
    EXPECT_EQ(saved, std::vector<int64_t>{32}) << stage;
    EXPECT_EQ(Warnings(run).size(), 1u) << stage;
    const Outcome next =
        Train(1, stage, {.resume_checkpoint = folder_ / stage / "checkpoints" / "step-32", .first_step = 32});
    EXPECT_EQ(next.model_sha256, run.model_sha256) << stage;
  }
}

}  // namespace
}  // namespace lockstep
