// SPDX-License-Identifier: Apache-2.0
#include "worker/data/dataset.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/formats/cifar.h"
#include "common/formats/idx.h"
#include "tests/unit/common/bounded.h"
#include "tests/unit/common/npy_writer.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/zip_builder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DatasetTest : public FolderTest {
 protected:
  absl::StatusOr<std::unique_ptr<Dataset>> Open(int64_t classes, uint64_t seed = 1) {
    return OpenDataset(spec_, {folder_.string()}, seed, classes);
  }
  void ExpectRefused(int64_t classes, const std::string& part) {
    const auto dataset = Open(classes);
    EXPECT_FALSE(dataset.ok()) << part;
    EXPECT_THAT(std::string(dataset.status().message()), HasSubstr(part));
  }
  template <typename T>
  static std::vector<T> Values(const Tensor& tensor) {
    return {tensor.as<T>(), tensor.as<T>() + tensor.elements()};
  }
  v1::DatasetSpec spec_;
};

TEST_F(DatasetTest, ArraysOfSeveralFilesAreOneTable) {
  Write("x-0.npy", NpyBytes<float>(Shape{1, 2}, {1, 2}));
  Write("x-1.npy", NpyBytes<float>(Shape{2, 2}, {3, 4, 5, 6}));
  Write("y.npz", Zip({Deflated("y.npy", NpyBytes<uint16_t>(Shape{3, 1}, {2, 0, 1}))}));
  v1::NumpyDataset& numpy = *spec_.mutable_numpy();
  numpy.add_train_features("x-*.npy");
  numpy.add_train_targets("y.npz");
  numpy.set_scale(2);
  auto dataset = Open(3);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const DataTable& train = (*dataset)->train();
  EXPECT_EQ(train.samples, 3);
  EXPECT_EQ(train.features.shape, (Shape{3, 2}));
  EXPECT_THAT(Values<float>(train.features), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(train.targets.shape, Shape{3});
  EXPECT_THAT(Values<int32_t>(train.targets), ElementsAre(2, 0, 1));
  EXPECT_EQ(train.scale, 2);
  EXPECT_EQ((*dataset)->test().samples, 0);
  EXPECT_EQ((*dataset)->test().features.shape, (Shape{0, 2}));
  EXPECT_EQ((*dataset)->sample_shape(), Shape{2});
  ExpectRefused(2, "y.npz:y: label 2 of row 0 is out of range: the model has 2 classes");
}

TEST_F(DatasetTest, BytesStayBytesAndDoublesBecomeFloats) {
  Write("x.npy", NpyBytes<uint8_t>(Shape{2, 2, 1}, {1, 2, 3, 255}));
  Write("y.npy", NpyBytes<double>(Shape{2, 2}, {0.5, 1.5, -1, 1e30}));
  v1::NumpyDataset& numpy = *spec_.mutable_numpy();
  numpy.add_train_features("x.npy");
  numpy.add_train_targets("y.npy");
  numpy.add_test_features("x.npy");
  numpy.add_test_targets("y.npy");
  auto dataset = Open(0);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  for (const DataTable* part : {&(*dataset)->train(), &(*dataset)->test()}) {
    EXPECT_EQ(part->features.type, DType::kU8);
    EXPECT_EQ(part->features.shape, (Shape{2, 2}));
    EXPECT_THAT(Values<uint8_t>(part->features), ElementsAre(1, 2, 3, 255));
    EXPECT_THAT(Values<float>(part->targets), ElementsAre(0.5f, 1.5f, -1, 1e30f));
  }
  EXPECT_EQ((*dataset)->sample_shape(), (Shape{2, 1}));
  Write("y.npy", NpyBytes<double>(Shape{2, 2}, {0.5, 1.5, -1, 1e39}));
  ExpectRefused(0, "y.npy: value 1 of row 1 is not a finite number");
}

TEST_F(DatasetTest, RecordsOfSeveralFilesAreOneTable) {
  for (int i = 0; i < 2; ++i) {
    const std::string record =
        std::string(1, static_cast<char>(i)) + std::string(kCifarImageBytes, static_cast<char>(7 + i));
    Write(absl::StrCat("c/", i, ".bin"), record + record);
    spec_.mutable_cifar()->add_train_files(absl::StrCat(i, ".bin"));
  }
  spec_.mutable_cifar()->set_path("c");
  spec_.mutable_cifar()->add_test_files("1.bin");
  auto dataset = Open(10);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const DataTable& train = (*dataset)->train();
  EXPECT_EQ(train.features.shape, (Shape{4, kCifarImageBytes}));
  EXPECT_THAT(Values<int32_t>(train.targets), ElementsAre(0, 0, 1, 1));
  const auto pixels = Values<uint8_t>(train.features);
  EXPECT_EQ(std::ranges::count(pixels, 7), 2 * kCifarImageBytes);
  EXPECT_TRUE(std::ranges::is_sorted(pixels));
  EXPECT_FLOAT_EQ(train.scale, 1.0f / 255.0f);
  EXPECT_EQ((*dataset)->test().samples, 2);
  ExpectRefused(1, "1.bin: label 1 of row 0 is out of range");
}

TEST_F(DatasetTest, ATableOfClassesHasLabels) {
  Write("t.csv", "x,y\n1,b\n2,a\n3,b\n4,a\n5,b\n");
  spec_.mutable_csv()->set_path("t.csv");
  spec_.mutable_csv()->add_target_columns("y");
  spec_.mutable_csv()->set_classify_target(true);
  auto dataset = Open(2);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const DataTable& train = (*dataset)->train();
  ASSERT_EQ(train.targets.type, DType::kI32);
  for (int64_t i = 0; i < train.samples; ++i) {
    EXPECT_EQ(train.targets.as<int32_t>()[i], static_cast<int>(train.features.as<float>()[i]) % 2);
  }
  ASSERT_NE((*dataset)->table_preprocessing(), nullptr);
  EXPECT_THAT((*dataset)->table_preprocessing()->classes, ElementsAre("a", "b"));
  ExpectRefused(1, "has 2 classes, the model 1");
}

TEST_F(DatasetTest, HeldOutSamplesAreDrawnBySeedAndNotCopied) {
  std::vector<uint8_t> pixels(100), labels(100, 1);
  std::iota(pixels.begin(), pixels.end(), uint8_t{0});
  ASSERT_TRUE(WriteIdx(Path("train-images-idx3-ubyte"), Shape{100, 1, 1}, pixels).ok());
  ASSERT_TRUE(WriteIdx(Path("train-labels-idx1-ubyte"), Shape{100}, labels).ok());
  // There need not be a test part.
  spec_.mutable_idx()->set_path(".");
  spec_.set_validation_fraction(0.3);
  auto dataset = Open(2);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const DataTable& train = (*dataset)->train();
  const DataTable& test = (*dataset)->test();
  EXPECT_EQ(train.samples, 70);
  EXPECT_EQ(test.samples, 30);
  EXPECT_EQ(train.features.data, test.features.data);
  std::set<int64_t> seen(train.rows, train.rows + train.samples);
  seen.insert(test.rows, test.rows + test.samples);
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 99);
  EXPECT_TRUE(std::is_sorted(train.rows, train.rows + train.samples));
  const std::vector<int64_t> first(test.rows, test.rows + 30);
  const auto again = Open(2).value(), other = Open(2, /*seed=*/2).value();
  EXPECT_TRUE(std::equal(first.begin(), first.end(), again->test().rows));
  EXPECT_FALSE(std::equal(first.begin(), first.end(), other->test().rows));
}

TEST_F(DatasetTest, SetsLargerThanMemoryAreRefusedBeforeTheyAreRead) {
  const auto expect = [&](const std::string& part) {
    const BoundedRun run = RunBounded([&] { return Open(10).status(); });
    EXPECT_THAT(run.message, HasSubstr(part));
    EXPECT_LT(run.peak_bytes, int64_t{128} << 20) << run.message;
  };
  const std::string header = NpyBytes<uint8_t>(Shape{1'000'000'000, 1000}, {});
  Write("x.npy", header);
  ASSERT_EQ(truncate(Path("x.npy").c_str(), static_cast<off_t>(header.size()) + 1'000'000'000'000), 0);
  const std::string labels = NpyBytes<uint8_t>(Shape{1'000'000'000}, {});
  Write("y.npy", labels);
  ASSERT_EQ(truncate(Path("y.npy").c_str(), static_cast<off_t>(labels.size()) + 1'000'000'000), 0);
  spec_.mutable_numpy()->add_train_features("x.npy");
  spec_.mutable_numpy()->add_train_targets("y.npy");
  expect("x.npy: 1000000000000 bytes do not fit into the");
  Write("c.bin", "");
  ASSERT_EQ(truncate(Path("c.bin").c_str(), 3073LL * 325'000'000), 0);
  spec_.mutable_cifar()->add_train_files("c.bin");
  expect("c.bin: 998400000000 bytes do not fit into the");
}

}  // namespace
}  // namespace lockstep
