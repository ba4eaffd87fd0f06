// SPDX-License-Identifier: Apache-2.0
// Networks large enough that the ranks of a host share the update: each has its slice of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/worker/trainer_fixture.h"
#include "worker/comm/tree_reduce.h"

namespace lockstep {
namespace {

v1::JobSpec Wide(const std::string& optimizer, const std::string& second_layer = R"({"dropout": {"rate": 0.2}})") {
  v1::JobSpec spec = BlobSpec();
  spec.clear_model();
  const std::string model = R"({"layers": [{"dense": {"units": 384, "activation": "relu"}}, )" + second_layer +
                            R"(, {"dense": {"units": 384, "activation": "relu", "kernel_regularizer": {"l2": 0.001}}},
                               {"dense": {"units": 2}}]})";
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(model, spec.mutable_model()).ok());
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(optimizer, spec.mutable_optimizer()).ok()) << optimizer;
  spec.mutable_training()->set_epochs(2);
  return spec;
}

const char* const kOptimizers[] = {
    // Shared.
    R"({"sgd": {"learning_rate": 0.1}})",
    R"({"sgd": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": true}, "clip_value": 0.01})",
    R"({"adam": {"amsgrad": true}, "gradient_accumulation_steps": 3})",
    R"({"adamw": {}, "weight_decay_exclude": ["*/bias"]})",
    R"({"adagrad": {"learning_rate": 0.1}})",
    R"({"rmsprop": {"momentum": 0.5, "centered": true}})",
    // Each rank does all of it.
    R"({"adam": {}, "global_clip_norm": 0.1})",
    R"({"nadam": {}, "use_ema": true, "ema_momentum": 0.9})",
    R"({"lamb": {"learning_rate": 0.01}, "weight_decay": 0.01})",
};

class TrainerSlicedTest : public TrainerTest {};
class SlicedOptimizersTest : public TrainerTest, public testing::WithParamInterface<const char*> {};

TEST_P(SlicedOptimizersTest, TheSameBitsForAnyNumberOfRanksAndThroughAStop) {
  const v1::JobSpec spec = Wide(GetParam());
  // The stop is in the middle of an accumulation, too.
  const Outcome one = ExpectSameBits(spec).first;
  // From one rank's, which had all of the state.
  Train(1, "one-part", {.stop_at = 40, .spec = spec});
  const std::string other = folder_ / "one-part" / "checkpoints" / "step-41";
  EXPECT_EQ(Train(4, "one-part", {.resume_checkpoint = other, .first_step = 41, .spec = spec}).model_sha256,
            one.model_sha256);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, SlicedOptimizersTest, testing::ValuesIn(kOptimizers), [](const auto& p) {
  const std::string text = p.param;
  return std::to_string(p.index) + text.substr(2, text.find('"', 2) - 2);
});

TEST_F(TrainerSlicedTest, TheNetworkIsLargeEnough) {
  const BlobDataset dataset(1000);
  int64_t elements = 0;
  for (const auto& layer : PlanOf(Wide(kOptimizers[0]), dataset).model.layers) {
    for (const auto& parameter : layer.parameters) elements += parameter.shape.elements();
  }
  EXPECT_GT(elements, kWholeSumElements);
}

TEST_F(TrainerSlicedTest, MovingStatisticsHaveTheSameBits) {
  for (const char* layer : {R"({"batch_normalization": {}})", R"({"batch_normalization": {"synchronized": true}})"}) {
    const v1::JobSpec spec = Wide(R"({"sgd": {"momentum": 0.9}, "gradient_accumulation_steps": 2})", layer);
    const Outcome one = Train(1, "one", {.spec = spec});
    ASSERT_EQ(one.model_sha256.size(), 64u) << one.status;
    EXPECT_EQ(Train(2, "two", {.spec = spec}).model_sha256, one.model_sha256);
    EXPECT_EQ(Train(3, "three", {.spec = spec}).model_sha256, one.model_sha256);
  }
}

TEST_F(TrainerSlicedTest, TheBestEpochIsKept) {
  v1::JobSpec spec = Wide(R"({"adam": {}})");
  spec.mutable_training()->mutable_early_stopping()->set_restore_best(true);
  spec.mutable_training()->mutable_early_stopping()->set_patience(5);
  const Outcome one = Train(1, "one", {.spec = spec});
  ASSERT_EQ(one.model_sha256.size(), 64u) << one.status;
  EXPECT_EQ(Train(3, "three", {.spec = spec}).model_sha256, one.model_sha256);
}

TEST_F(TrainerSlicedTest, StepsThatAreNotFiniteAreSkippedWithTheSameBits) {
  for (const char* optimizer : {R"({"adam": {}})", R"({"adam": {}, "gradient_accumulation_steps": 3})"}) {
    v1::JobSpec spec = Wide(optimizer);
    spec.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_SKIP_STEP);
    const Outcome one = Train(1, "one", {.poisoned = true, .spec = spec});
    ASSERT_EQ(one.model_sha256.size(), 64u) << one.status;
    EXPECT_FALSE(Warnings(one).empty());
    EXPECT_EQ(Train(3, "three", {.poisoned = true, .spec = spec}).model_sha256, one.model_sha256);
    EXPECT_EQ(Train(4, "four", {.poisoned = true, .spec = spec}).model_sha256, one.model_sha256);
  }
}

TEST_F(TrainerSlicedTest, AStepThatIsNotFiniteIsDescribedAsByOneRank) {
  const v1::JobSpec spec = Wide(R"({"adam": {}})");
  const Outcome one = Train(1, "one", {.poisoned = true, .spec = spec});
  const Outcome four = Train(4, "four", {.poisoned = true, .spec = spec});
  const std::string message(one.status.message());
  EXPECT_THAT(message, testing::HasSubstr("first in"));
  // All but the rank is the same.
  EXPECT_THAT(std::string(four.status.message()), testing::StartsWith(message.substr(0, message.find(" on rank "))));
}

TEST_F(TrainerSlicedTest, ARollBackHasTheSameBitsAlsoAcrossRestarts) {
  v1::JobSpec spec = Wide(R"({"adam": {}, "gradient_accumulation_steps": 2})");
  spec.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_ROLL_BACK);
  spec.mutable_training()->set_checkpoint_interval_steps(7);
  const Outcome whole = Train(1, "whole", {.poisoned = true, .spec = spec});
  ASSERT_EQ(whole.model_sha256.size(), 64u) << whole.status;
  ASSERT_FALSE(Warnings(whole).empty());
  EXPECT_EQ(Train(4, "four", {.poisoned = true, .spec = spec}).model_sha256, whole.model_sha256);
  for (const int64_t stop_at : {int64_t{3}, int64_t{33}}) {
    const std::string name = std::to_string(stop_at), path = folder_ / ("snapshot-" + name);
    Train(2, name,
          {.stop_at = stop_at, .stop_kind = StopRequest::kStop, .snapshot_path = path, .poisoned = true, .spec = spec});
    const Outcome second =
        Train(3, name, {.resume_snapshot = path, .first_step = stop_at + 1, .poisoned = true, .spec = spec});
    EXPECT_EQ(second.model_sha256, whole.model_sha256) << "stopped after step " << stop_at << ": " << second.status;
  }
}

// The first weight is in rank 0's slice: the others take over what becomes of its damage, and rank 0 what its own
// copy of the others' slices is overwritten with.
TEST_F(TrainerSlicedTest, ASilentlyFlippedBitShowsInThatRanksDigest) {
  for (const int damaged : {0, 1}) {
    const std::string file = folder_ / ("failpoints-" + std::to_string(damaged));
    std::ofstream(file) << "memory.flip error rank=" << damaged << " hit=15\n";
    const Outcome run = Train(3, "flipped", {.spec = Wide(R"({"adam": {}})"), .failpoints = file});
    std::map<int64_t, std::vector<std::string>> digests;
    for (int rank = 0; rank < 3; ++rank) {
      for (const v1::SessionRequest& report : run.reports_of_rank[rank]) {
        const auto& some = rank == 0 ? report.commit_steps().digests() : report.digest_report().digests();
        for (const v1::StepDigest& digest : some) digests[digest.step()].push_back(digest.digest());
      }
    }
    EXPECT_EQ(digests[10][damaged], digests[10][2]);
    EXPECT_NE(digests[20][damaged], digests[20][2]) << "rank " << damaged;
    EXPECT_EQ(digests[20][1 - damaged], digests[20][2]);
  }
}

}  // namespace
}  // namespace lockstep
