// SPDX-License-Identifier: Apache-2.0
// What is found out about CIFAR's and NumPy's sets before a job is taken.
#include <gmock/gmock.h>

#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/formats/cifar.h"
#include "common/model/job_plan.h"
#include "tests/unit/common/npy_writer.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/zip_builder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto Fault(const std::string& field, const std::string& part) {
  return ::testing::AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

class ArrayProbeTest : public FolderTest {
 protected:
  std::vector<Violation> Probe() {
    Violations violations;
    info_ = ProbeDataset(spec_, {Path("root")}, /*seed=*/1, violations);
    return violations.list();
  }
  // What PlanJob says of the data set.
  std::vector<Violation> Plan(bool at_hand) {
    v1::JobSpec job;
    *job.mutable_dataset() = spec_;
    Violations all, violations;
    PlanJob(job, at_hand ? &info_ : nullptr, all);
    for (const Violation& v : all.list()) {
      if (v.field.starts_with("dataset")) violations.Add(v.field, v.description);
    }
    return violations.list();
  }
  void Records(const std::string& name, const std::string& labels) {
    std::string bytes;
    for (char label : labels) bytes += label + std::string(kCifarImageBytes, 'p');
    Write(absl::StrCat("root/c/", name), bytes);
  }
  template <typename T>
  void Array(const std::string& name, const Shape& shape, std::vector<T> values = {}) {
    if (values.empty()) {
      values.resize(static_cast<size_t>(shape.elements()));
      std::iota(values.begin(), values.end(), T{0});
    }
    Write(absl::StrCat("root/", name), NpyBytes(shape, values));
  }
  void SmallNumpy() {
    Array<float>("x-0.npy", Shape{2, 3});
    Array<float>("x-1.npy", Shape{4, 3});
    Array<int64_t>("y.npy", Shape{6});
    spec_.mutable_numpy()->add_train_features("x-*.npy");
    spec_.mutable_numpy()->add_train_targets("y.npy");
  }
  v1::DatasetSpec spec_;
  DatasetInfo info_;
};

TEST_F(ArrayProbeTest, CountsRecordsOfSeveralFiles) {
  for (int i = 1; i <= 5; ++i) Records(absl::StrCat("data_batch_", i, ".bin"), std::string("\1\2\3"));
  Records("test_batch.bin", "\1\2");
  spec_.mutable_cifar()->set_path("c");
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{3, 32, 32}));
  EXPECT_EQ(info_.train_samples, 15);
  EXPECT_EQ(info_.test_samples, 2);
  EXPECT_EQ(info_.classes, 10);
  EXPECT_TRUE(info_.classification);
  Records("data_batch_4.bin", "\1\x0b");
  Write("root/c/test_batch.bin", "short");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.cifar.train_files[3]", "label 11 of record 1"),
                                   Fault("dataset.cifar.test_files[0]", "not whole records")));
  spec_.mutable_cifar()->add_train_files("data_batch_1.bin");
  spec_.set_validation_fraction(0.4);
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.train_samples, 2);
  EXPECT_EQ(info_.test_samples, 1);
  spec_.mutable_cifar()->clear_path();
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.cifar.path", "missing")));
  spec_.mutable_cifar()->set_path("c");
  spec_.mutable_cifar()->set_labels(v1::CIFAR_LABELS_CIFAR100_FINE);
  spec_.mutable_cifar()->clear_train_files();
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.cifar.train_files[0]", "c/train.bin is in none")));
}

TEST_F(ArrayProbeTest, ReadsArraysOfSeveralFiles) {
  SmallNumpy();
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.sample, Shape{3});
  EXPECT_EQ(info_.train_samples, 6);
  EXPECT_EQ(info_.test_samples, 0);
  EXPECT_TRUE(info_.classification);
  EXPECT_EQ(info_.classes, 6);
  spec_.set_validation_fraction(0.5);
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.train_samples, 3);
  EXPECT_EQ(info_.test_samples, 3);
}

TEST_F(ArrayProbeTest, ReadsArraysOfArchives) {
  const std::string x = NpyBytes(Shape{2, 4, 4}, std::vector<uint8_t>(32)),
                    y = NpyBytes(Shape{2, 3}, std::vector<double>(6));
  Write("root/d.npz", Zip({Deflated("x.npy", x), Stored("y.npy", y)}));
  spec_.mutable_numpy()->add_train_features("d*.npz:x");
  spec_.mutable_numpy()->add_train_targets("d.npz:y");
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{4, 4}));
  EXPECT_FALSE(info_.classification);
  EXPECT_EQ(info_.target_width, 3);
  EXPECT_EQ(info_.classes, 0);
  spec_.mutable_numpy()->set_train_targets(0, "d.npz:z");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_targets", "no array \"z\"; it has x, y")));
}

TEST_F(ArrayProbeTest, ArraysThatDoNotFitTogetherAreNamed) {
  SmallNumpy();
  Array<double>("x-1.npy", Shape{4, 3});
  EXPECT_THAT(Probe(),
              ElementsAre(Fault("dataset.numpy.train_features", "x-1.npy: rows of float64 [3], but those of")));
  Array<float>("x-1.npy", Shape{4, 2});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_features", "rows of float32 [2]")));
  Array<float>("x-1.npy", Shape{5, 3});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_targets", "holds 7 samples, but")));
  Array<float>("x-1.npy", Shape{4, 3});
  Array<int64_t>("y.npy", Shape{6}, {0, 1, 2, -3, 4, 5});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_targets", "label -3 of row 3 is no class index")));
  Array<float>("y.npy", Shape{6, 1, 1});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_targets", "targets are [samples] or")));
  Array<float>("y.npy", Shape{6});
  spec_.mutable_numpy()->set_train_features(0, "y.npy");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_features", "reshape it to [samples, 1]")));
  Array<int32_t>("z.npy", Shape{6, 2});
  spec_.mutable_numpy()->set_train_features(0, "z.npy");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_features", "samples of int32; convert them")));
  Array<float>("z.npy", Shape{0, 2});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_features", "holds no values")));
}

// Files in another order than their targets would train on nonsense.
TEST_F(ArrayProbeTest, FilesArePairedByTheirLengths) {
  SmallNumpy();
  Array<int64_t>("y-0.npy", Shape{4});
  Array<int64_t>("y-1.npy", Shape{2});
  spec_.mutable_numpy()->set_train_targets(0, "y-*.npy");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.train_targets", "x-0.npy holds 2 samples, but")));
}

TEST_F(ArrayProbeTest, BothPartsAreOfOneKind) {
  SmallNumpy();
  v1::NumpyDataset& numpy = *spec_.mutable_numpy();
  numpy.add_test_features("tx.npy");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.test_features", "in none of"),
                                   Fault("dataset.numpy.test_targets", "is missing")));
  numpy.add_test_targets("ty.npy");
  Array<float>("tx.npy", Shape{2, 3});
  Array<int8_t>("ty.npy", Shape{2}, {7, 1});
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.test_samples, 2);
  EXPECT_EQ(info_.classes, 8);
  Array<float>("ty.npy", Shape{2});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.test_features", "another kind")));
  Array<float>("tx.npy", Shape{2, 4});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.test_features", "test samples are [4]")));
  Array<double>("tx.npy", Shape{2, 3});
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.numpy.test_features", "test samples are float64")));
}

TEST_F(ArrayProbeTest, TheSplitLeavesSomethingOfBoth) {
  SmallNumpy();
  spec_.set_validation_fraction(0.01);
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.validation_fraction", "leaves 6 samples to train on and 0")));
  spec_.set_validation_fraction(0.99);
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.validation_fraction", "leaves 0 samples")));
}

TEST_F(ArrayProbeTest, FieldsAreChecked) {
  SmallNumpy();
  spec_.set_validation_fraction(1);
  spec_.mutable_numpy()->set_scale(0);
  Probe();
  EXPECT_THAT(Plan(/*at_hand=*/true), ElementsAre(Fault("dataset.validation_fraction", "is 1; must be at least 0"),
                                                  Fault("dataset.numpy.scale", "is 0;")));
  spec_.Clear();
  spec_.set_validation_fraction(0.5);
  spec_.mutable_numpy()->add_test_features("a");
  EXPECT_THAT(
      Plan(/*at_hand=*/false),
      ElementsAre(Fault("dataset.numpy.train_features", "missing"), Fault("dataset.numpy.train_targets", "missing"),
                  Fault("dataset.numpy.test_features", "no effect"), Fault("dataset.numpy.test_targets", "missing")));
  spec_.Clear();
  spec_.mutable_cifar()->set_labels(static_cast<v1::CifarLabels>(9));
  spec_.mutable_cifar()->set_offset(std::numeric_limits<double>::infinity());
  EXPECT_THAT(Plan(/*at_hand=*/false),
              ElementsAre(Fault("dataset.cifar.offset", "finite"), Fault("dataset.cifar.path", "missing"),
                          Fault("dataset.cifar.labels", "CIFAR100_FINE")));
  spec_.Clear();
  spec_.set_validation_fraction(0.5);
  v1::CsvDataset& csv = *spec_.mutable_csv();
  for (const char* name : {"a", "a", "b", "y"}) csv.add_categorical_columns(name);
  csv.add_ignore_columns("b");
  for (const char* name : {"y", "z"}) csv.add_target_columns(name);
  csv.set_classify_target(true);
  csv.set_standardize_targets(true);
  EXPECT_THAT(Plan(/*at_hand=*/false),
              ElementsAre(Fault("dataset.validation_fraction", "csv.test_fraction"),
                          Fault("dataset.csv.categorical_columns[1]", "twice"),
                          Fault("dataset.csv.categorical_columns[2]", "ignore_columns"),
                          Fault("dataset.csv.categorical_columns[3]", "classify_target"),
                          Fault("dataset.csv.classify_target", "exactly one target column, not 2"),
                          Fault("dataset.csv.standardize_targets", "leave one"), Fault("dataset.csv.path", "missing")));
}

TEST_F(ArrayProbeTest, TheRealData) {
  const char* data = std::getenv("LOCKSTEP_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "LOCKSTEP_DATA_DIR is not set";
  Violations violations;
  spec_.mutable_cifar()->set_path("cifar10-small");
  spec_.mutable_cifar()->add_train_files("data_batch_small.bin");
  spec_.mutable_cifar()->add_test_files("test_batch_small.bin");
  info_ = ProbeDataset(spec_, {data}, /*seed=*/1, violations);
  EXPECT_THAT(violations.list(), IsEmpty());
  EXPECT_EQ(info_.train_samples, 4000);
  EXPECT_EQ(info_.test_samples, 1000);
  v1::CsvDataset& csv = *spec_.mutable_csv();
  csv.set_path("california-housing/*.csv");
  csv.add_target_columns("median_house_value");
  csv.add_categorical_columns("ocean_proximity");
  csv.set_missing_values(v1::MISSING_VALUE_POLICY_MEAN);
  info_ = ProbeDataset(spec_, {data}, /*seed=*/1, violations);
  EXPECT_THAT(violations.list(), IsEmpty());
  EXPECT_EQ(info_.sample, Shape{13});
  EXPECT_EQ(info_.train_samples + info_.test_samples, 20640);
}

}  // namespace
}  // namespace lockstep
