// SPDX-License-Identifier: Apache-2.0
#include "cli/predictions.h"

#include <gmock/gmock.h>

#include "google/protobuf/text_format.h"

namespace lockstep::cli {
namespace {

TrainedModel Model(const std::string& loss, int64_t outputs) {
  TrainedModel model;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(loss, model.job.mutable_loss()));
  model.plan.output = Shape{outputs};
  return model;
}

std::string Text(const TrainedModel& model, const PredictionFormat& format, const std::vector<float>& output) {
  const PredictionText text(model, format);
  return text.Header() + text.Row(output);
}

constexpr char kLogits[] = "sparse_categorical_crossentropy { from_logits: true }";
constexpr char kProbabilities[] = "sparse_categorical_crossentropy {}";

TEST(PredictionText, TheLikeliestClassWithItsProbability) {
  EXPECT_EQ(Text(Model(kProbabilities, 3), {}, {0.25f, 0.5f, 0.25f}), "class,probability\n1,0.5\n");
  // The float nearest to ln 3, 0, 0: nearly 3/5, 1/5, 1/5; the lower index on a tie.
  EXPECT_EQ(Text(Model(kLogits, 3), {.top = 2}, {0, 1.09861229f, 0}),
            "class_1,probability_1,class_2,probability_2\n1,0.600000005,0,0.199999998\n");
  // Large ones do not overflow.
  EXPECT_EQ(Text(Model(kLogits, 2), {}, {1e4f, -1e4f}), "class,probability\n0,1\n");
}

TEST(PredictionText, NoMoreClassesThanThereAre) {
  EXPECT_EQ(Text(Model(kProbabilities, 2), {.top = 9}, {0.25f, 0.75f}),
            "class_1,probability_1,class_2,probability_2\n1,0.75,0,0.25\n");
}

TEST(PredictionText, ClassesHaveTheirNames) {
  TrainedModel model = Model(kProbabilities, 2);
  model.preprocessing.table.emplace().classes = {"plain", "a \"b\", c"};
  EXPECT_EQ(Text(model, {}, {0.25f, 0.75f}), "class,probability\n\"a \"\"b\"\", c\",0.75\n");
  EXPECT_EQ(Text(model, {.json = true}, {0.25f, 0.75f}),
            "{\"classes\":[{\"class\":\"a \\\"b\\\", c\",\"index\":1,\"probability\":0.75}]}\n");
}

TEST(PredictionText, OneOutputSaysYesOrNo) {
  EXPECT_EQ(Text(Model("binary_crossentropy {}", 1), {}, {0.75f}), "class,probability\n1,0.75\n");
  EXPECT_EQ(Text(Model("binary_crossentropy {}", 1), {}, {0.25f}), "class,probability\n0,0.75\n");
  EXPECT_EQ(Text(Model("binary_crossentropy { from_logits: true }", 1), {}, {0}), "class,probability\n0,0.5\n");
  EXPECT_EQ(Text(Model("hinge {}", 1), {}, {-0.5f}), "class,score\n0,-0.5\n");
  EXPECT_EQ(Text(Model("binary_crossentropy { from_logits: true }", 2), {}, {0, 1.09861229f}),
            "output_0,output_1\n0.5,0.750000004\n");
}

TEST(PredictionText, NumbersAreInTheUnitOfTheData) {
  TrainedModel model = Model("mean_squared_error {}", 2);
  model.preprocessing.table.emplace().targets = {
      {.name = "price", .categories = {}, .mean = {100}, .stddev = {10}, .standardized = true},
      {.name = "rooms", .categories = {}, .mean = {4}, .stddev = {2}, .standardized = false}};
  EXPECT_EQ(Text(model, {}, {0.5f, 3}), "price,rooms\n105,3\n");
  EXPECT_EQ(Text(model, {.raw = true}, {0.5f, 3}), "price,rooms\n0.5,3\n");
  EXPECT_EQ(Text(model, {.json = true}, {0.5f, 3}), "{\"outputs\":[105.0,3.0]}\n");
}

TEST(PredictionText, RawOutputsAreReadBackExactly) {
  EXPECT_EQ(Text(Model(kLogits, 2), {.raw = true}, {0.1f, -3.4028235e38f}),
            "output_0,output_1\n0.100000001,-3.40282347e+38\n");
}

TEST(NpyHead, IsAMultipleOf64Bytes) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{3}, {1, 2}, {1000000, 1000, 1000, 1000}}) {
    const std::string head = NpyHead(shape);
    EXPECT_EQ(head.size() % 64, 0u);
    EXPECT_EQ(static_cast<size_t>(static_cast<uint8_t>(head[8])) + 256 * static_cast<uint8_t>(head[9]) + 10,
              head.size());
    EXPECT_EQ(head.back(), '\n');
  }
}

}  // namespace
}  // namespace lockstep::cli
