// SPDX-License-Identifier: Apache-2.0
// Small jobs on a GPU: the same bits every time, and for any number of ranks that share it.
#include <set>
#include <string>

#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/gpu/gpu.h"
#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

class GpuTraining : public TrainerTest {
 protected:
  static TrainOptions OnGpu(v1::Precision precision = v1::PRECISION_FLOAT32) {
    TrainOptions options{.device = MakeGpu};
    options.spec = OneEpoch();
    options.spec.mutable_training()->set_precision(precision);
    return options;
  }
  // 32 steps.
  static v1::JobSpec OneEpoch() {
    v1::JobSpec spec = BlobSpec();
    spec.mutable_training()->set_epochs(1);
    return spec;
  }
};

class GpuPrecision : public GpuTraining, public testing::WithParamInterface<v1::Precision> {};

TEST_P(GpuPrecision, FiveRunsHaveTheSameBits) {
  std::set<std::string> models;
  for (int run = 0; run < 5; ++run) {
    const Outcome outcome = Train(1, "run" + std::to_string(run), OnGpu(GetParam()));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    models.insert(outcome.model_sha256);
  }
  EXPECT_EQ(models.size(), 1u);
}

TEST_P(GpuPrecision, RanksThatShareAGpuHaveTheSameBits) {
  const Outcome one = Train(1, "one", OnGpu(GetParam()));
  ASSERT_TRUE(one.status.ok()) << one.status;
  for (const int ranks : {2, 4}) {
    const Outcome more = Train(ranks, "ranks" + std::to_string(ranks), OnGpu(GetParam()));
    ASSERT_TRUE(more.status.ok()) << more.status;
    EXPECT_EQ(more.model_sha256, one.model_sha256) << ranks;
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, GpuPrecision,
                         testing::Values(v1::PRECISION_FLOAT32, v1::PRECISION_TF32, v1::PRECISION_MIXED_BFLOAT16),
                         [](const auto& p) { return v1::Precision_Name(p.param); });

// Images lie in 16 bits between these layers.
TEST_F(GpuTraining, RanksHaveTheSameBitsOfImages) {
  TrainOptions options = OnGpu(v1::PRECISION_MIXED_BFLOAT16);
  options.spec.clear_model();
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"layers": [{"reshape": {"targetShape": [2, 2, 2]}},
                     {"conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME", "useBias": false}},
                     {"name": "stem", "batchNormalization": {}},
                     {"name": "deep", "conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME"}},
                     {"name": "sum", "add": {}, "inputs": ["deep", "stem"]}, {"relu": {}},
                     {"globalAveragePooling2d": {}}, {"dense": {"units": 2}}]})",
      options.spec.mutable_model());
  ASSERT_TRUE(status.ok()) << status.ToString();
  const Outcome one = Train(1, "one", options), two = Train(2, "two", options);
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_EQ(two.model_sha256, one.model_sha256);
  EXPECT_LT(Epochs(one).back().train_loss(), 0.6);
}

// Another order of sums, but the same training.
TEST_F(GpuTraining, LearnsWhatTheCpuLearns) {
  const Outcome gpu = Train(1, "gpu", OnGpu()), cpu = Train(1, "cpu", {.spec = OneEpoch()});
  ASSERT_TRUE(gpu.status.ok()) << gpu.status;
  ASSERT_EQ(Epochs(gpu).size(), Epochs(cpu).size());
  for (size_t i = 0; i < Epochs(gpu).size(); ++i) {
    EXPECT_NEAR(Epochs(gpu)[i].train_loss(), Epochs(cpu)[i].train_loss(), 1e-4);
  }
}

TEST_F(GpuTraining, ACheckpointGoesOnWithTheSameBits) {
  const Outcome one = Train(1, "one", OnGpu());
  TrainOptions options = OnGpu();
  options.stop_at = 10;
  Train(2, "parts", options);
  TrainOptions rest = OnGpu();
  rest.resume_checkpoint = folder_ / "parts" / "checkpoints" / "step-11";
  rest.first_step = 11;
  EXPECT_EQ(Train(1, "parts", rest).model_sha256, one.model_sha256);
}

}  // namespace
}  // namespace lockstep
