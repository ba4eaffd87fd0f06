// SPDX-License-Identifier: Apache-2.0
#include "worker/train/loss_scale.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using LossScaleTrainerTest = TrainerTest;

v1::LossScaleSpec Spec(double initial, int64_t growth) {
  v1::LossScaleSpec spec;
  spec.set_initial_scale(initial);
  spec.set_growth_steps(growth);
  return spec;
}

TEST(LossScaleTest, GrowsAfterSoManyFiniteStepsAndShrinksAtOnce) {
  const LossScale scale(v1::LossScaleSpec::default_instance());
  std::vector<double> state = scale.InitialState();
  EXPECT_THAT(state, ElementsAre(32768, 0));
  for (int i = 0; i < 1999; ++i) scale.Observe(true, state);
  EXPECT_EQ(LossScale::Scale(state), 32768);
  scale.Observe(true, state);
  EXPECT_EQ(LossScale::Scale(state), 65536);
  for (int i = 0; i < 1999; ++i) scale.Observe(true, state);
  // The finite steps must follow on each other.
  scale.Observe(false, state);
  EXPECT_EQ(LossScale::Scale(state), 32768);
  scale.Observe(true, state);
  EXPECT_EQ(LossScale::Scale(state), 32768);
}

TEST(LossScaleTest, StaysInItsBounds) {
  const LossScale scale(Spec(4, 1));
  std::vector<double> state = scale.InitialState();
  for (int i = 0; i < 100; ++i) scale.Observe(true, state);
  EXPECT_EQ(LossScale::Scale(state), LossScale::kMax);
  for (int i = 0; i < 100; ++i) scale.Observe(false, state);
  EXPECT_EQ(LossScale::Scale(state), 1);
  EXPECT_FALSE(LossScale::CanShrink(state));
}

TEST(LossScaleTest, ADamagedStateIsStillAPowerOfTwo) {
  for (const double damaged : {std::numeric_limits<double>::quiet_NaN(), -3.0, 0.0, 0.5}) {
    EXPECT_EQ(LossScale::Scale(std::vector<double>{damaged, 0}), 1);
  }
  EXPECT_EQ(LossScale::Scale(std::vector<double>{std::numeric_limits<double>::infinity(), 0}), LossScale::kMax);
  EXPECT_EQ(LossScale::Scale(std::vector<double>{1000, 0}), 512);
}

// Powers of two are exact: scaling changes no bit, with every number of ranks, over a restart, and with what rides in
// the gradient.
TEST_F(LossScaleTrainerTest, TheBitsAreThoseWithoutAScale) {
  v1::JobSpec norm = BlobSpec();
  norm.mutable_model()->mutable_layers(1)->mutable_batch_normalization();
  norm.mutable_optimizer()->set_global_clip_norm(0.5);
  for (const v1::JobSpec& plain : {BlobSpec(), norm}) {
    const std::string name = plain.optimizer().has_global_clip_norm() ? "norm" : "plain";
    const Outcome without = Train(2, name + "-without", {.spec = plain});
    ASSERT_TRUE(without.status.ok()) << without.status;
    v1::JobSpec scaled = plain;
    // Grows several times.
    scaled.mutable_training()->mutable_loss_scale()->set_growth_steps(7);
    scaled.mutable_training()->mutable_loss_scale()->set_initial_scale(256);
    for (const int ranks : {1, 4}) {
      const Outcome with = Train(ranks, name + std::to_string(ranks), {.spec = scaled, .scale_loss = true});
      ASSERT_TRUE(with.status.ok()) << with.status;
      EXPECT_EQ(with.model_sha256, without.model_sha256) << name << " with " << ranks << " ranks";
    }
    Train(2, name + "-parts", {.stop_at = 40, .spec = scaled, .scale_loss = true});
    const std::string checkpoint = folder_ / (name + "-parts") / "checkpoints" / "step-41";
    const Outcome rest = Train(3, name + "-parts",
                               {.resume_checkpoint = checkpoint, .first_step = 41, .spec = scaled, .scale_loss = true});
    EXPECT_EQ(rest.model_sha256, without.model_sha256) << rest.status;
  }
}

// A gradient that is too large for the scale alone is left out, and the scale becomes smaller until it fits: without a
// word of a failure, and the same after a restart.
TEST_F(LossScaleTrainerTest, AStepThatIsTooLargeIsLeftOut) {
  v1::JobSpec spec = BlobSpec();
  spec.clear_optimizer();
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(0.1);
  spec.mutable_optimizer()->set_global_clip_norm(1);
  // The gradient is about 1e33.
  for (int i = 0; i < 2; ++i) spec.mutable_loss()->mutable_sparse_categorical_crossentropy()->add_class_weights(1e35);
  const Outcome all = Train(1, "all", {.spec = spec});
  spec.mutable_training()->mutable_loss_scale()->set_initial_scale(LossScale::kMax);
  const Outcome one = Train(1, "one", {.spec = spec, .scale_loss = true});
  ASSERT_TRUE(one.status.ok()) << one.status;
  ASSERT_TRUE(all.status.ok()) << all.status;
  EXPECT_TRUE(Warnings(one).empty());
  EXPECT_NE(one.model_sha256, all.model_sha256);
  EXPECT_EQ(Train(4, "four", {.spec = spec, .scale_loss = true}).model_sha256, one.model_sha256);
  Train(2, "parts", {.stop_at = 2, .spec = spec, .scale_loss = true});
  const Outcome rest = Train(2, "parts",
                             {.resume_checkpoint = folder_ / "parts" / "checkpoints" / "step-3",
                              .first_step = 3,
                              .spec = spec,
                              .scale_loss = true});
  EXPECT_EQ(rest.model_sha256, one.model_sha256) << rest.status;
}

TEST_F(LossScaleTrainerTest, ALossThatIsNotFiniteIsNoMatterOfScale) {
  const Outcome run = Train(2, "poisoned", {.poisoned = true, .scale_loss = true});
  ASSERT_FALSE(run.failures.empty());
  EXPECT_THAT(run.failures[0], ::testing::HasSubstr("first in the samples"));
}

}  // namespace
}  // namespace lockstep
