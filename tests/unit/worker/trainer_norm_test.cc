// SPDX-License-Identifier: Apache-2.0
// Layers that carry statistics from step to step, for any number of ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

v1::JobSpec NormSpec(bool synchronized, int shards) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_logical_shards(shards);
  spec.mutable_model()->clear_layers();
  spec.mutable_model()->add_layers()->mutable_dense()->set_units(16);
  v1::BatchNormalizationLayer& norm = *spec.mutable_model()->add_layers()->mutable_batch_normalization();
  norm.set_synchronized(synchronized);
  norm.set_momentum(0.9);
  spec.mutable_model()->add_layers()->mutable_relu();
  // Sums of another width, and a layer whose moving statistics do not lie side by side with the first's.
  spec.mutable_model()->add_layers()->mutable_dense()->set_units(5);
  *spec.mutable_model()->add_layers()->mutable_batch_normalization() = norm;
  spec.mutable_model()->add_layers()->mutable_dense()->set_units(2);
  return spec;
}

TEST_F(TrainerTest, BatchNormalizationHasTheSameBitsForAnyNumberOfRanks) {
  for (const bool synchronized : {false, true}) {
    const v1::JobSpec spec = NormSpec(synchronized, 4);
    const std::string name = synchronized ? "synchronized" : "plain";
    const Outcome one = Train(1, name + "1", {.spec = spec});
    ASSERT_EQ(one.model_sha256.size(), 64u) << one.status.ToString();
    EXPECT_GT(Epochs(one).back().test_accuracy(), 0.85);
    for (int ranks : {2, 3, 4}) {
      const Outcome many = Train(ranks, name + std::to_string(ranks), {.spec = spec});
      EXPECT_EQ(many.model_sha256, one.model_sha256) << name << " " << ranks << " ranks";
      EXPECT_EQ(Epochs(many).back().test_loss(), Epochs(one).back().test_loss());
    }
  }
}

// However the batch is cut, the statistics are those of all of it.
TEST_F(TrainerTest, SynchronizedStatisticsDoNotDependOnTheShards) {
  const auto loss = [&](bool synchronized, int shards) {
    v1::JobSpec spec = NormSpec(synchronized, shards);
    spec.mutable_training()->set_epochs(1);
    const Outcome run = Train(1, absl::StrCat(synchronized, "-", shards), {.spec = spec});
    return Epochs(run).back().train_loss();
  };
  const double whole = loss(false, 1), synchronized = loss(true, 4), cut = loss(false, 4);
  // 32 steps of sums in another order.
  EXPECT_NEAR(synchronized, whole, 1e-5 * whole);
  EXPECT_GT(std::abs(cut - whole), 1e-4 * whole);
}

TEST_F(TrainerTest, MovingStatisticsGoOnAfterAStop) {
  for (const bool synchronized : {false, true}) {
    const v1::JobSpec spec = NormSpec(synchronized, 4);
    const std::string name = synchronized ? "synchronized" : "plain";
    const Outcome whole = Train(2, name, {.spec = spec});
    const Outcome first = Train(3, name + "-parts", {.stop_at = 41, .spec = spec});
    std::string checkpoint;
    for (const v1::SessionRequest& report : first.reports) {
      if (report.has_checkpoint_saved()) checkpoint = report.checkpoint_saved().path();
    }
    ASSERT_FALSE(checkpoint.empty());
    const Outcome second = Train(2, name + "-parts", {.resume_checkpoint = checkpoint, .first_step = 42, .spec = spec});
    EXPECT_EQ(second.model_sha256, whole.model_sha256);
  }
}

}  // namespace
}  // namespace lockstep
