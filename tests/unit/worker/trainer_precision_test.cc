// SPDX-License-Identifier: Apache-2.0
// Products in BF16 keep the promise, and the model that comes out is float's.
#include <gtest/gtest.h>

#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

v1::JobSpec MixedSpec() {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_precision(v1::PRECISION_MIXED_BFLOAT16);
  return spec;
}

TEST_F(TrainerTest, MixedPrecisionHasTheSameBitsForAnyNumberOfRanks) {
  const TrainOptions options{.spec = MixedSpec()};
  const Outcome one = Train(1, "one", options);
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_NE(one.model_sha256, Train(1, "float").model_sha256);
  for (const int ranks : {2, 4}) {
    const Outcome more = Train(ranks, std::to_string(ranks), options);
    EXPECT_EQ(more.model_sha256, one.model_sha256) << ranks << " ranks";
    ASSERT_EQ(Epochs(more).size(), Epochs(one).size());
    for (size_t i = 0; i < Epochs(one).size(); ++i) {
      EXPECT_EQ(Epochs(more)[i].SerializeAsString(), Epochs(one)[i].SerializeAsString());
    }
  }
}

TEST_F(TrainerTest, MixedPrecisionLearnsWhatFloatLearns) {
  const Outcome mixed = Train(2, "mixed", {.spec = MixedSpec()}), full = Train(2, "float");
  ASSERT_FALSE(Epochs(mixed).empty());
  ASSERT_FALSE(Epochs(full).empty());
  // The blobs lie apart; rounding moves a sample over the border only where it lies on it.
  EXPECT_GE(Epochs(mixed).back().test_accuracy(), Epochs(full).back().test_accuracy() - 0.01);
}

}  // namespace
}  // namespace lockstep
