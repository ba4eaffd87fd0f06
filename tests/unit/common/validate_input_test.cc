// SPDX-License-Identifier: Apache-2.0
// What may be asked for between a sample's file and the step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/model/checks.h"
#include "common/model/input_plan.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MATCHER_P2(Fault, field, text, "") { return arg.field == field && arg.description.find(text) != std::string::npos; }

v1::JobSpec Spec(const std::string& dataset) {
  v1::JobSpec spec;
  const std::string json =
      R"({"training": {"batch_size": 100}, "resources": {"workers": 2}, "dataset": )" + dataset + "}";
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &spec).ok()) << json;
  return spec;
}

std::vector<Violation> Check(const std::string& dataset, const Shape& sample = {3, 32, 24}, int32_t shards = 4) {
  const DatasetInfo info{.sample = sample, .train_samples = 1000, .test_samples = 500};
  Violations violations;
  CheckInput(Spec(dataset), &info, shards, violations);
  return violations.list();
}

std::string Change(const std::string& change) { return R"({"augmentation": [)" + change + "]}"; }

TEST(CheckInputTest, WhatIsRightIsTaken) {
  EXPECT_THAT(Check("{}"), IsEmpty());
  EXPECT_THAT(Check("{}", {8}), IsEmpty());
  for (const Shape& sample : {Shape{3, 32, 24}, Shape{32, 24}}) {
    EXPECT_THAT(Check(R"({"augmentation": [{"random_shift": {"vertical": 31, "horizontal": 23}},
                        {"random_flip": {"vertical": true}}, {"random_crop": {"padding": 24}},
                        {"random_rotation": {"degrees": 180}}, {"cutout": {"size": 24}}],
                        "normalize": {"mean": [0], "stddev": [1]}, "prefetch_batches": 256})",
                      sample),
                IsEmpty());
  }
  EXPECT_THAT(Check(R"({"normalize": {"mean": [1, 2, 3], "stddev": [2]}})"), IsEmpty());
  EXPECT_THAT(Check(R"({"normalize": {"mean": [1], "stddev": [2]}})", {8}), IsEmpty());
}

TEST(CheckInputTest, AugmentationNeedsImages) {
  EXPECT_THAT(Check(Change(R"({"random_crop": {"padding": 1}})"), {8}),
              ElementsAre(Fault("dataset.augmentation", "the samples of the data set are [8]")));
  EXPECT_THAT(Check(Change(R"({"random_crop": {"padding": 1}})"), {1, 2, 3, 4}),
              ElementsAre(Fault("dataset.augmentation", "needs images")));
}

TEST(CheckInputTest, EachChangeFitsTheImage) {
  EXPECT_THAT(Check(R"({"augmentation": [{"random_shift": {"vertical": 32, "horizontal": -1}}, {},
                      {"random_flip": {}}, {"random_crop": {}}, {"random_crop": {"padding": 25}},
                      {"random_rotation": {}}, {"random_rotation": {"degrees": 180.5}},
                      {"random_rotation": {"degrees": "NaN"}}, {"cutout": {"size": 25}}, {"random_shift": {}}]})"),
              ElementsAre(Fault("dataset.augmentation[0].random_shift.vertical", "at most 31"),
                          Fault("dataset.augmentation[0].random_shift.horizontal", "is -1"),
                          Fault("dataset.augmentation[1]", "is empty"),
                          Fault("dataset.augmentation[2].random_flip", "flips nothing"),
                          Fault("dataset.augmentation[3].random_crop.padding", "at least 1 and at most 24"),
                          Fault("dataset.augmentation[4].random_crop.padding", "is 25"),
                          Fault("dataset.augmentation[5].random_rotation.degrees", "is 0"),
                          Fault("dataset.augmentation[6].random_rotation.degrees", "is 180.5"),
                          Fault("dataset.augmentation[7].random_rotation.degrees", "at most 180"),
                          Fault("dataset.augmentation[8].cutout.size", "at most 24"),
                          Fault("dataset.augmentation[9].random_shift", "moves nothing")));
  // An image of one row.
  EXPECT_THAT(Check(Change(R"({"random_shift": {"vertical": 1, "horizontal": 3}})"), {1, 4}),
              ElementsAre(Fault("dataset.augmentation[0].random_shift.vertical", "at most 0")));
}

TEST(CheckInputTest, WithoutTheDataWhatCanBeSaidIsSaid) {
  Violations violations;
  CheckInput(Spec(R"({"augmentation": [{"random_crop": {"padding": 1000}}, {"cutout": {"size": 0}}],
                      "normalize": {"mean": [1, 2], "stddev": [0, 1]}, "numpy": {}, "memory_limit_bytes": 1})"),
             nullptr, 0, violations);
  EXPECT_THAT(violations.list(), ElementsAre(Fault("dataset.augmentation[1].cutout.size", "is 0"),
                                             Fault("dataset.normalize.stddev[0]", "greater than 0")));
}

TEST(CheckInputTest, TooManyChangesAreOneFault) {
  std::string changes = R"({"random_flip": {}})";
  for (int i = 0; i < 40; ++i) changes += R"(, {"random_flip": {}})";
  EXPECT_THAT(Check(Change(changes)), ElementsAre(Fault("dataset.augmentation", "has 41 entries")));
}

TEST(CheckInputTest, NormalizeFitsTheChannels) {
  EXPECT_THAT(Check(R"({"normalize": {"mean": [1, 2], "stddev": []}})"),
              ElementsAre(Fault("dataset.normalize.mean",
                                "has 2 numbers; give one for all, or one for each channel, of "
                                "which the samples have 3"),
                          Fault("dataset.normalize.stddev", "has 0 numbers")));
  EXPECT_THAT(Check(R"({"normalize": {"mean": ["NaN", 1e39, 1], "stddev": [-1, 1e-60, "Infinity"]}})"),
              ElementsAre(Fault("dataset.normalize.mean[0]", "finite"), Fault("dataset.normalize.mean[1]", "finite"),
                          Fault("dataset.normalize.stddev[0]", "greater than 0"),
                          Fault("dataset.normalize.stddev[1]", "greater than 0"),
                          Fault("dataset.normalize.stddev[2]", "greater than 0")));
}

TEST(CheckInputTest, LimitsAreInRange) {
  EXPECT_THAT(Check(R"({"prefetch_batches": -1})"), ElementsAre(Fault("dataset.prefetch_batches", "is -1")));
  EXPECT_THAT(Check(R"({"prefetch_batches": 257})"), ElementsAre(Fault("dataset.prefetch_batches", "to 256")));
  EXPECT_THAT(Check(R"({"memory_limit_bytes": -5, "numpy": {}})"),
              ElementsAre(Fault("dataset.memory_limit_bytes", "is -5")));
  EXPECT_THAT(Check(R"({"memory_limit_bytes": 100000000, "idx": {}})"),
              ElementsAre(Fault("dataset.memory_limit_bytes", "only for numpy and cifar")));
  EXPECT_THAT(Check(R"({"memory_limit_bytes": 100000000,
                        "numpy": {"train_features": ["a.npy", "b.npz"], "test_targets": ["c.npz:y"]}})"),
              ElementsAre(Fault("dataset.numpy.train_features[1]", "row by row"),
                          Fault("dataset.numpy.test_targets[0]", "row by row")));
}

TEST(CheckInputTest, ALimitTooSmallForTheRingSaysWhatIsNeeded) {
  // Two of four shards of 25 rows for each of the two workers: 4 batches of 50 rows and one slot in use, each row
  // 32 * 24 * 3 floats and a label, three pieces of 256 held-out rows, the labels, and the buffers.
  const v1::JobSpec spec = Spec("{}");
  const DatasetInfo info{.sample = Shape{3, 32, 24}, .train_samples = 1000, .test_samples = 500};
  const int64_t needed = PlanInput(spec, info, 4, 2).bytes;
  const int64_t rings = (9 * 25 + 3 * 256) * (32 * 24 * 3 * 4 + 4) + 1500 * 4;
  EXPECT_GE(needed, rings);
  EXPECT_LE(needed, rings + (3 << 20));
  const auto limit = [](int64_t bytes) {
    return R"({"numpy": {}, "memory_limit_bytes": )" + std::to_string(bytes) + "}";
  };
  EXPECT_THAT(Check(limit(needed)), IsEmpty());
  EXPECT_THAT(Check(limit(needed - 1)),
              ElementsAre(Fault("dataset.memory_limit_bytes", std::to_string(needed) + " bytes of samples")));
}

TEST(InputPlanTest, ASmallerGroupGetsFewerSlotsInTheSameLimit) {
  v1::JobSpec spec = Spec(R"({"cifar": {}, "prefetch_batches": 8})");
  const DatasetInfo info{.sample = Shape{3, 32, 32}, .train_samples = 1000, .test_samples = 500};
  const InputPlan four = PlanInput(spec, info, 4, 1);
  EXPECT_EQ(four.train_slots, 9);
  EXPECT_EQ(PlanInput(spec, info, 4, 4).train_slots, 33);
  EXPECT_EQ(FitInput(spec, info, 4, 4).train_slots, 33) << "without a limit";
  spec.mutable_dataset()->set_memory_limit_bytes(four.bytes);
  const InputPlan one = FitInput(spec, info, 4, 4);
  EXPECT_LE(one.bytes, four.bytes);
  EXPECT_GE(one.train_slots, four.train_slots);
  spec.mutable_dataset()->set_memory_limit_bytes(1);
  EXPECT_EQ(FitInput(spec, info, 4, 4).train_slots, 2) << "two are always left, and do not fit";
  EXPECT_GT(FitInput(spec, info, 4, 4).bytes, 1);
}

TEST(InputPlanTest, SizesThatCannotBeCountedAreTooMuch) {
  v1::JobSpec spec = Spec(R"({"numpy": {}, "prefetch_batches": 256})");
  spec.mutable_training()->set_batch_size(int64_t{1} << 40);
  const DatasetInfo info{.sample = Shape{int64_t{1} << 40}, .train_samples = int64_t{1} << 40};
  EXPECT_EQ(PlanInput(spec, info, 1, 1).bytes, std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace lockstep
