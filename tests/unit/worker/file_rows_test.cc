// SPDX-License-Identifier: Apache-2.0
#include "worker/data/file_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileRowsTest : public FolderTest {
 protected:
  template <typename T>
  RecordFile Records(const std::string& name, const std::vector<T>& values, int64_t records, int64_t junk = 0) {
    std::string bytes(static_cast<size_t>(junk), '?');
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    Write(name, bytes);
    return {name, junk, records};
  }
  absl::StatusOr<std::unique_ptr<FileRows>> Create(const std::vector<RecordFile>& files, const RecordLayout& layout,
                                                   Tensor targets = {}) const {
    return FileRows::Create(files, {folder_}, layout, targets);
  }
};

TEST_F(FileRowsTest, ReadsRowsOfSeveralFilesInAnyOrder) {
  std::vector<RecordFile> files;
  files.push_back(Records<float>("a", {1, 2, 3, 4, 5, 6}, 3, 7));
  files.push_back(Records<float>("b", {7, 8}, 1));
  files.push_back(Records<float>("empty", {}, 0));
  files.push_back(Records<float>("c", {9, 10, 11, 12}, 2, 128));
  std::vector<int32_t> labels{10, 11, 12, 13, 14, 15};
  const auto rows = Create(files, {.bytes = 8, .features = 2, .type = DType::kF32, .scale = 2, .offset = 1},
                           {labels.data(), Shape{6}, DType::kI32});
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)->samples(), 6);
  std::vector<float> features(14, -1);
  std::vector<int32_t> targets(7, -1);
  const std::vector<int64_t> wanted{5, 0, 1, 2, 3, 4, 0};
  ASSERT_TRUE((*rows)->Read(wanted, features.data(), targets.data()).ok());
  EXPECT_THAT(features, ElementsAre(23, 25, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 3, 5));
  EXPECT_THAT(targets, ElementsAre(15, 10, 11, 12, 13, 14, 10));
}

TEST_F(FileRowsTest, TargetsMayBeSeveralNumbers) {
  std::vector<float> numbers{0.5f, 1.5f, 2.5f, 3.5f};
  const auto rows = Create({Records<uint8_t>("a", {1, 2}, 2)}, {.bytes = 1, .features = 1},
                           {numbers.data(), Shape{2, 2}, DType::kF32});
  std::vector<float> features(2), targets(4);
  const std::vector<int64_t> wanted{1, 0};
  ASSERT_TRUE((*rows)->Read(wanted, features.data(), targets.data()).ok());
  EXPECT_THAT(features, ElementsAre(2, 1));
  EXPECT_THAT(targets, ElementsAre(2.5f, 3.5f, 0.5f, 1.5f));
}

TEST_F(FileRowsTest, DoublesBecomeFloatsFirst) {
  const auto rows = Create({Records<double>("a", {0.1, -3e-320, 1e300, 2.0}, 4)},
                           {.bytes = 8, .features = 1, .type = DType::kF64, .scale = 3});
  std::vector<int32_t> labels(3);
  std::vector<float> features(3);
  const std::vector<int64_t> wanted{0, 1, 3}, bad{0, 2};
  ASSERT_TRUE((*rows)->Read(wanted, features.data(), labels.data()).ok());
  EXPECT_THAT(features, ElementsAre(0.1f * 3.0f, 0.0f, 6.0f));
  const absl::Status status = (*rows)->Read(bad, features.data(), labels.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/a: sample 2"));
}

TEST_F(FileRowsTest, WhatIsNoNumberIsNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value :
       {nan, -nan, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    const auto rows =
        Create({Records<float>("a", {1, 2, 3, value}, 2)}, {.bytes = 8, .features = 2, .type = DType::kF32});
    std::vector<float> features(2);
    int32_t label = 0;
    const std::vector<int64_t> second{1};
    EXPECT_EQ((*rows)->Read(second, features.data(), &label).code(), absl::StatusCode::kOutOfRange);
  }
}

TEST_F(FileRowsTest, ALabelInTheRecordIsReadAndChecked) {
  const RecordLayout layout{.bytes = 4, .first_feature = 2, .features = 2, .label_at = 1, .classes = 10};
  const auto rows = Create({Records<uint8_t>("a", {0, 3, 1, 2, 0, 9, 3, 4, 0, 10, 5, 6}, 3)}, layout);
  std::vector<float> features(6);
  std::vector<int32_t> labels(3);
  const std::vector<int64_t> good{1, 0}, bad{0, 2};
  ASSERT_TRUE((*rows)->Read(good, features.data(), labels.data()).ok());
  EXPECT_THAT(labels, ElementsAre(9, 3, 0));
  const absl::Status status = (*rows)->Read(bad, features.data(), labels.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(Path("a")), HasSubstr("label 10 of sample 2")));
}

TEST_F(FileRowsTest, RowsLargerThanTheBufferAndRunsLargerThanIt) {
  const int64_t width = kReadBytes + 1000;
  std::vector<uint8_t> values(static_cast<size_t>(2 * width));
  std::iota(values.begin(), values.end(), uint8_t{0});
  const auto large = Create({Records("large", values, 2)}, {.bytes = width, .features = width});
  std::vector<float> features(static_cast<size_t>(2 * width));
  std::vector<int32_t> labels(static_cast<size_t>(2 * width));
  const std::vector<int64_t> both{0, 1};
  ASSERT_TRUE((*large)->Read(both, features.data(), labels.data()).ok());
  for (size_t i = 0; i < features.size(); ++i) ASSERT_EQ(features[i], values[i]) << i;
  const auto small = Create({Records("small", values, 2 * width)}, {.bytes = 1, .features = 1});
  std::vector<int64_t> all(static_cast<size_t>(2 * width));
  std::iota(all.begin(), all.end(), 0);
  ASSERT_TRUE((*small)->Read(all, features.data(), labels.data()).ok());
  for (size_t i = 0; i < features.size(); ++i) ASSERT_EQ(features[i], values[i]) << i;
}

TEST_F(FileRowsTest, AShortFileIsRefused) {
  const auto rows = Create({Records<uint8_t>("short", {1, 2, 3, 4, 5}, 2)}, {.bytes = 3, .features = 3});
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(rows.status().message()), AllOf(HasSubstr(Path("short")), HasSubstr("sample 1 of 2")));
  EXPECT_EQ(Create({Records<uint8_t>("none", {1, 2, 3}, 1, 0)}, {.bytes = 4, .features = 3}).status().code(),
            absl::StatusCode::kDataLoss);
  RecordFile behind = Records<uint8_t>("behind", {1, 2, 3}, 1);
  behind.begin = 100;
  EXPECT_EQ(Create({behind}, {.bytes = 1, .features = 1}).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(FileRowsTest, AFileThatIsCutShortLaterIsAnErrorThatNamesTheSample) {
  const auto rows = Create({Records<uint8_t>("cut", {1, 2, 3, 4, 5, 6, 7, 8}, 4)}, {.bytes = 2, .features = 2});
  std::filesystem::resize_file(Path("cut"), 5);
  std::vector<float> features(8);
  std::vector<int32_t> labels(4);
  const std::vector<int64_t> whole{0, 1}, cut{1, 2, 3};
  EXPECT_TRUE((*rows)->Read(whole, features.data(), labels.data()).ok());
  const absl::Status status = (*rows)->Read(cut, features.data(), labels.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(Path("cut")), HasSubstr("sample 2 of 4")));
}

TEST_F(FileRowsTest, MoreFilesThanAreKeptOpen) {
  std::vector<RecordFile> files;
  const int count = 3 * static_cast<int>(kOpenFiles) / 2;
  for (int i = 0; i < count; ++i) {
    files.push_back(Records<uint8_t>(std::to_string(i), {static_cast<uint8_t>(i), static_cast<uint8_t>(i + 1)}, 2));
  }
  const auto rows = Create(files, {.bytes = 1, .features = 1});
  std::vector<float> features(2);
  std::vector<int32_t> labels(2);
  for (int step = 0; step < 1000; ++step) {
    const int a = step * 7 % count, b = step * 31 % count;
    const std::vector<int64_t> wanted{2 * a, 2 * b + 1};
    ASSERT_TRUE((*rows)->Read(wanted, features.data(), labels.data()).ok());
    ASSERT_THAT(features, ElementsAre(a, b + 1));
  }
  // All others are read twice, so it is closed; then it is another one.
  for (int i = 0; i < 2 * count; ++i) {
    const std::vector<int64_t> wanted{2 * (i % count == 70 ? 0 : i % count), 0};
    ASSERT_TRUE((*rows)->Read(wanted, features.data(), labels.data()).ok());
  }
  Write("new", "ab");
  std::filesystem::rename(Path("new"), Path("70"));
  const std::vector<int64_t> wanted{140};
  const absl::Status status = (*rows)->Read(wanted, features.data(), labels.data());
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("/70"), HasSubstr("was replaced")));
}

}  // namespace
}  // namespace lockstep
