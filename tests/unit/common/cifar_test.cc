// SPDX-License-Identifier: Apache-2.0
#include "common/formats/cifar.h"

#include <gmock/gmock.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A record whose pixels are i + 1, i + 2, ...
std::string Record(const std::string& labels, int i) {
  std::string record = labels;
  for (int64_t p = 0; p < kCifarImageBytes; ++p) record += static_cast<char>(i + p + 1);
  return record;
}

class CifarTest : public FolderTest {
 protected:
  absl::Status Read(const std::string& bytes, const CifarLayout& layout) {
    const TestFd fd(Write("c.bin", bytes));
    labels_.clear();
    const auto records = CountCifarRecords(fd.get(), "c.bin", layout);
    if (!records.ok()) return records.status();
    images_.assign(static_cast<size_t>(*records * kCifarImageBytes), 0);
    if (absl::Status s = ReadCifar(fd.get(), "c.bin", layout, images_.data(), &labels_); !s.ok()) return s;
    std::vector<int32_t> alone;
    EXPECT_TRUE(ReadCifarLabels(fd.get(), "c.bin", layout, &alone).ok());
    EXPECT_EQ(alone, labels_);
    return absl::OkStatus();
  }
  void ExpectRefused(const std::string& bytes, const CifarLayout& layout, const std::string& part) {
    const absl::Status status = Read(bytes, layout);
    EXPECT_THAT(std::string(status.message()), HasSubstr("c.bin: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  std::vector<uint8_t> images_;
  std::vector<int32_t> labels_;
};

TEST_F(CifarTest, ReadsLabelsAndPixels) {
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += Record(std::string(1, static_cast<char>(i % 10)), i);
  ASSERT_TRUE(Read(bytes, kCifar10).ok());
  ASSERT_EQ(labels_.size(), 100u);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(labels_[i], i % 10);
    for (int64_t p = 0; p < kCifarImageBytes; ++p) {
      ASSERT_EQ(images_[i * kCifarImageBytes + p], static_cast<uint8_t>(i + p + 1));
    }
  }
}

TEST_F(CifarTest, ReadsEitherLabelOfAHundred) {
  const std::string bytes = Record("\x13\x63", 0) + Record(std::string("\0\x05", 2), 1);
  ASSERT_TRUE(Read(bytes, kCifar100Fine).ok());
  EXPECT_THAT(labels_, ElementsAre(99, 5));
  ASSERT_TRUE(Read(bytes, kCifar100Coarse).ok());
  EXPECT_THAT(labels_, ElementsAre(19, 0));
}

TEST_F(CifarTest, WrongFilesAreNamed) {
  ExpectRefused("", kCifar10, "the file is empty");
  const std::string good = Record("\x01", 0);
  ExpectRefused(good.substr(1), kCifar10, "3072 bytes are not whole records of 3073 bytes");
  ExpectRefused(good + "x", kCifar10, "1 are left");
  ExpectRefused(good, kCifar100Fine, "not whole records of 3074 bytes");
  ExpectRefused(good + Record("\x0a", 0), kCifar10, "label 10 of record 1 is out of range");
  ExpectRefused(Record("\x14\x01", 0), kCifar100Fine, "label 20 of record 0");
  ExpectRefused(Record("\x01\x64", 0), kCifar100Coarse, "label 100 of record 0");
}

TEST_F(CifarTest, TheRealData) {
  const char* data = std::getenv("LOCKSTEP_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "LOCKSTEP_DATA_DIR is not set";
  const std::string folder = absl::StrCat(data, "/cifar10-small/");
  ASSERT_TRUE(Read(Slurp(folder + "data_batch_small.bin"), kCifar10).ok());
  std::array<int, 10> counts{};
  for (int32_t label : labels_) ++counts[static_cast<size_t>(label)];
  EXPECT_THAT(counts, ElementsAre(396, 366, 420, 384, 422, 393, 414, 385, 407, 413));
  // The channels' means of this part, scaled to [0, 1], as its description gives them.
  std::array<double, 3> sums{};
  for (size_t i = 0; i < images_.size(); ++i) sums[i / 1024 % 3] += images_[i];
  for (double& sum : sums) sum /= 255.0 * 1024 * 4000;
  EXPECT_NEAR(sums[0], 0.4916, 5e-5);
  EXPECT_NEAR(sums[1], 0.4818, 5e-5);
  EXPECT_NEAR(sums[2], 0.4447, 5e-5);
}

}  // namespace
}  // namespace lockstep
