// SPDX-License-Identifier: Apache-2.0
// Dark samples, whose empty columns are left out, and whose kernel's gradient is never written: the weights are those
// of a device that does neither.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

// Bytes in the shape [8, 8], dark at the edges.
class DarkSet final : public Dataset {
 public:
  explicit DarkSet(int64_t samples) : pixels_(static_cast<size_t>(samples * 64)), labels_(samples) {
    const RngStream stream{99, RngPurpose::kSynthetic, 0};
    for (int64_t i = 0; i < samples; ++i) {
      labels_[i] = static_cast<int32_t>(i % 2);
      for (int64_t j = 0; j < 64; ++j) {
        const uint64_t word = stream.Word(static_cast<uint64_t>(i * 64 + j));
        const bool inside = j / 8 >= 2 && j / 8 < 6 && j % 8 >= 2 && j % 8 < 6;
        if (inside && word % 2 == 0) pixels_[i * 64 + j] = static_cast<uint8_t>(word >> 8) / (1 + labels_[i]);
      }
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
    return {.features = {pixels_.data() + first * 64, Shape{count, 64}, DType::kU8},
            .scale = 1.0F / 255.0F,
            .targets = {labels_.data() + first, Shape{count}, DType::kI32},
            .samples = count};
  }
  std::vector<uint8_t> pixels_;
  std::vector<int32_t> labels_;
  Shape shape_{8, 8};
  DataTable train_, test_;
};

class ColumnsTrainerTest : public TrainerTest {
 protected:
  static TrainOptions Options(const std::string& optimizer, int shards, bool far = false, int64_t samples = 1000) {
    v1::JobSpec spec;
    const auto status = google::protobuf::util::JsonStringToMessage(
        R"({"name": "dark", "seed": 5,
            "model": {"layers": [{"flatten": {}}, {"dense": {"units": 16, "activation": "relu"}},
                                 {"dense": {"units": 2}}]},
            "loss": {"sparse_categorical_crossentropy": {"from_logits": true}}, "optimizer": )" +
            optimizer + R"(, "training": {"batch_size": 10, "epochs": 3}, "resources": {"workers": 1}})",
        &spec);
    EXPECT_TRUE(status.ok()) << status.ToString();
    spec.mutable_training()->set_logical_shards(shards);
    TrainOptions options{.spec = spec};
    options.dataset = [samples] { return std::make_unique<DarkSet>(samples); };
    // Which gathers all of a batch, and writes all of a gradient.
    if (far) options.device = [] { return std::make_unique<FarDevice>(); };
    return options;
  }
};

// With and without a gradient that nobody sees: plain SGD of one shard, and all else.
TEST_F(ColumnsTrainerTest, TheWeightsAreThoseOfAllColumns) {
  for (const char* optimizer :
       {R"({"sgd": {"learning_rate": 0.5}})", R"({"sgd": {"learning_rate": 0.5, "momentum": 0.9}})", R"({"adam": {}})",
        R"({"sgd": {"learning_rate": 0.5}, "clip_value": 1e-3})",
        R"({"sgd": {"learning_rate": 0.5}, "global_clip_norm": 1e-2})",
        R"({"sgd": {"learning_rate": 0.5}, "weight_decay": 0.01})",
        R"({"sgd": {"learning_rate": 0.5}, "gradient_accumulation_steps": 2})",
        R"({"sgd": {"learning_rate": 0.5}, "use_ema": true})"}) {
    for (const int shards : {1, 2}) {
      SCOPED_TRACE(testing::Message() << optimizer << " of " << shards);
      const Outcome near = Train(1, "near", Options(optimizer, shards));
      const Outcome all = Train(1, "all", Options(optimizer, shards, true));
      ASSERT_EQ(near.model_sha256.size(), 64U) << near.status;
      EXPECT_EQ(near.model_sha256, all.model_sha256);
      EXPECT_GT(Epochs(near).back().test_accuracy(), 0.5);
    }
  }
}

TEST_F(ColumnsTrainerTest, APenalisedOrAFrozenKernelIsTreatedAsSuch) {
  for (const char* dense : {R"({"dense": {"units": 16, "activation": "relu", "kernel_regularizer": {"l2": 0.01}}})",
                            R"({"dense": {"units": 16, "activation": "relu"}, "trainable": false})",
                            R"({"dense": {"units": 16, "activation": "relu", "use_bias": false}})"}) {
    SCOPED_TRACE(dense);
    TrainOptions options = Options(R"({"sgd": {"learning_rate": 0.5}})", 1);
    v1::LayerSpec layer;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(dense, &layer).ok());
    *options.spec.mutable_model()->mutable_layers(1) = layer;
    const Outcome near = Train(1, "near", options);
    ASSERT_EQ(near.model_sha256.size(), 64U) << near.status;
    options.device = [] { return std::make_unique<FarDevice>(); };
    EXPECT_EQ(near.model_sha256, Train(1, "all", options).model_sha256);
  }
}

// A layer so wide that it is multiplied straight from bytes; the last batch of an epoch is a smaller one.
TEST_F(ColumnsTrainerTest, AWideLayerTakesBytesAndGivesTheSameWeights) {
  for (const v1::Precision precision : {v1::PRECISION_UNSPECIFIED, v1::PRECISION_MIXED_BFLOAT16}) {
    TrainOptions options = Options(R"({"adam": {}})", 1);
    options.spec.mutable_training()->set_batch_size(280);
    options.spec.mutable_training()->set_precision(precision);
    options.spec.mutable_model()->mutable_layers(1)->mutable_dense()->set_units(64);
    const Outcome near = Train(1, "near", options);
    ASSERT_EQ(near.model_sha256.size(), 64U) << near.status;
    options.device = [] { return std::make_unique<FarDevice>(); };
    const Outcome all = Train(1, "all", options);
    EXPECT_EQ(near.model_sha256, all.model_sha256) << precision;
    EXPECT_EQ(Epochs(near).back().test_loss(), Epochs(all).back().test_loss());
  }
}

TEST_F(ColumnsTrainerTest, EveryNumberOfRanksGivesTheSameBits) {
  const TrainOptions options = Options(R"({"sgd": {"learning_rate": 0.5}})", 4);
  const Outcome one = Train(1, "one", options);
  ASSERT_EQ(one.model_sha256.size(), 64U) << one.status;
  for (const int ranks : {2, 4}) EXPECT_EQ(Train(ranks, "more", options).model_sha256, one.model_sha256);
}

// The gradient is worked out after all, so that it can be said where it began.
TEST_F(ColumnsTrainerTest, ANumberThatIsNotFiniteIsFoundAsWithAllColumns) {
  for (const char* rate : {"1e30", "1e25", "1e38"}) {
    const std::string optimizer = std::string(R"({"sgd": {"learning_rate": )") + rate + "}}";
    const Outcome near = Train(1, "near", Options(optimizer, 1));
    const Outcome all = Train(1, "all", Options(optimizer, 1, true));
    ASSERT_FALSE(near.failures.empty()) << rate;
    EXPECT_THAT(near.failures[0], HasSubstr("first in "));
    EXPECT_EQ(near.failures, all.failures);
  }
}

// Large enough for a copy in large pages, from the second epoch on.
TEST_F(ColumnsTrainerTest, ATableThatMovesGivesTheSameBits) {
  TrainOptions options = Options(R"({"sgd": {"learning_rate": 0.5}})", 1, false, 180'000);
  options.spec.mutable_training()->set_batch_size(1000);
  TrainOptions all = Options(R"({"sgd": {"learning_rate": 0.5}})", 1, true, 180'000);
  all.spec = options.spec;
  const Outcome moved = Train(1, "moved", options);
  ASSERT_EQ(moved.model_sha256.size(), 64U) << moved.status;
  EXPECT_EQ(moved.model_sha256, Train(1, "all", all).model_sha256);
}

}  // namespace
}  // namespace lockstep
