// SPDX-License-Identifier: Apache-2.0
// Every optimizer in training: the same bits for any number of ranks, and through a stop.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

v1::JobSpec With(const std::string& optimizer) {
  v1::JobSpec spec = BlobSpec();
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(optimizer, spec.mutable_optimizer()).ok()) << optimizer;
  spec.mutable_training()->set_epochs(2);
  return spec;
}

const char* const kOptimizers[] = {
    R"({"sgd": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": true}, "clip_value": 0.01})",
    R"({"adam": {"amsgrad": true}, "gradient_accumulation_steps": 3})",
    R"({"adamw": {}, "weight_decay_exclude": ["*/bias"], "global_clip_norm": 0.1})",
    R"({"nadam": {}, "use_ema": true, "ema_momentum": 0.9})",
    R"({"adagrad": {"learning_rate": 0.1}, "clip_norm": 0.05})",
    R"({"rmsprop": {"momentum": 0.5, "centered": true}})",
    R"({"lion": {}, "weight_decay": 0.1})",
    R"({"lamb": {"learning_rate": 0.01}, "weight_decay": 0.01, "use_ema": true})",
    R"({"lars": {"learning_rate": 1}, "weight_decay": 0.01})",
};

class TrainerOptimizersTest : public TrainerTest, public testing::WithParamInterface<const char*> {};

TEST_P(TrainerOptimizersTest, TheSameBitsForAnyNumberOfRanksAndThroughAStop) {
  const v1::JobSpec spec = With(GetParam());
  // The stop is in the middle of an accumulation, too.
  const auto [one, rest] = ExpectSameBits(spec);
  const auto all = Epochs(one), last = Epochs(rest);
  ASSERT_EQ(all.size(), 2u);
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].SerializeAsString(), all[1].SerializeAsString());
}

INSTANTIATE_TEST_SUITE_P(Optimizers, TrainerOptimizersTest, testing::ValuesIn(kOptimizers), [](const auto& p) {
  return std::string(p.param).substr(2, std::string(p.param).find('"', 2) - 2);
});

TEST(TrainerOptimizersTest, EveryOptimizerIsTrainedWith) {
  std::set<std::string> trained, kinds;
  for (const char* optimizer : kOptimizers) {
    const std::string text = optimizer;
    trained.insert(text.substr(2, text.find('"', 2) - 2));
  }
  const auto* oneof = v1::OptimizerSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) kinds.insert(oneof->field(i)->name());
  EXPECT_EQ(trained, kinds);
}

using TrainerAverageTest = TrainerTest;

// The trained model is the average, which the checkpoint has beside the weights; averaging does not change
// what the weights become.
TEST_F(TrainerAverageTest, TheAverageIsTheModelAndTheCheckpointHasBoth) {
  const char* plain = R"({"sgd": {"learning_rate": 0.1}})";
  const char* averaged = R"({"sgd": {"learning_rate": 0.1}, "use_ema": true, "ema_momentum": 0.98})";
  v1::JobSpec spec = With(averaged);
  // The last step's state is kept as a checkpoint by asking for a stop in it.
  Train(2, "averaged", {.stop_at = 62, .spec = spec});
  Train(2, "plain", {.stop_at = 62, .spec = With(plain)});
  const auto checkpoint = [&](const char* run) { return folder_ / run / "checkpoints" / "step-63"; };
  const auto weights = Values(checkpoint("averaged") / "parameters.safetensors", "");
  EXPECT_EQ(weights, Values(checkpoint("plain") / "parameters.safetensors", ""));
  ASSERT_EQ(weights.size(), 8u * 16 + 16 + 16 * 2 + 2);
  const auto average = Values(checkpoint("averaged") / "optimizer.safetensors", "average/");
  ASSERT_EQ(average.size(), weights.size());
  EXPECT_NE(average, weights);

  const Outcome rest =
      Train(2, "averaged", {.resume_checkpoint = checkpoint("averaged"), .first_step = 63, .spec = spec});
  ASSERT_TRUE(rest.result.finished) << rest.status;
  const auto model = Values(folder_ / "averaged" / "model.safetensors", "");
  ASSERT_EQ(model.size(), weights.size());
  // One step more: average = 0.98 average + 0.02 w.
  double moved = 0;
  for (size_t i = 0; i < model.size(); ++i) moved = std::max(moved, std::abs(double{model[i]} - average[i]));
  double apart = 0;
  for (size_t i = 0; i < model.size(); ++i) apart = std::max(apart, std::abs(double{weights[i]} - average[i]));
  EXPECT_GT(moved, 0);
  EXPECT_LT(moved, 0.1 * apart);
}

TEST_F(TrainerAverageTest, EvaluationIsOfTheAverage) {
  // The average hardly leaves the initial weights, and so does the loss of the held-out data.
  const Outcome still = Train(
      1, "still", {.spec = With(R"({"sgd": {"learning_rate": 0.1}, "use_ema": true, "ema_momentum": 0.999999})")});
  const Outcome plain = Train(1, "plain", {.spec = With(R"({"sgd": {"learning_rate": 0.1}})")});
  EXPECT_EQ(Epochs(still)[1].train_loss(), Epochs(plain)[1].train_loss());
  EXPECT_LT(std::abs(Epochs(still)[1].test_loss() - Epochs(still)[0].test_loss()), 1e-3);
  EXPECT_LT(Epochs(plain)[1].test_loss(), Epochs(still)[1].test_loss() - 0.01);
}

}  // namespace
}  // namespace lockstep
