// SPDX-License-Identifier: Apache-2.0
// Sets whose samples stay in their files are those that are held in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "tests/unit/common/npy_writer.h"
#include "tests/unit/common/test_folder.h"
#include "worker/data/dataset.h"
#include "worker/data/feed.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class StreamedTablesTest : public FolderTest {
 protected:
  absl::StatusOr<std::unique_ptr<Dataset>> Open(const std::string& json, bool streamed, int64_t classes) const {
    v1::DatasetSpec spec;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &spec).ok()) << json;
    if (streamed) spec.set_memory_limit_bytes(1 << 30);
    return OpenDataset(spec, {folder_}, 5, classes);
  }

  // All samples of a part, shuffled, features first and then the targets' bits.
  static std::vector<float> All(const Dataset& dataset, const DataTable& table) {
    const int64_t width = dataset.sample_shape().elements(), n = table.samples;
    Feed feed(table, v1::DatasetSpec(), dataset.sample_shape(), 5, true, n);
    const int64_t target_width = n == 0 ? 0 : table.targets.elements() / table.targets.shape[0];
    std::vector<float> all(static_cast<size_t>(n * (width + target_width)));
    const absl::Status status = feed.Make({1, 0, n}, all.data(), all.data() + n * width);
    EXPECT_TRUE(status.ok()) << status;
    return all;
  }

  void ExpectTheSame(const std::string& json, int64_t classes) const {
    const auto held = Open(json, false, classes), streamed = Open(json, true, classes);
    ASSERT_TRUE(held.ok()) << held.status();
    ASSERT_TRUE(streamed.ok()) << streamed.status();
    EXPECT_EQ((*held)->sample_shape(), (*streamed)->sample_shape());
    EXPECT_GT((*held)->train().samples, 0);
    for (const auto& [a, b] :
         {std::pair{&(*held)->train(), &(*streamed)->train()}, {&(*held)->test(), &(*streamed)->test()}}) {
      EXPECT_EQ(a->samples, b->samples);
      EXPECT_EQ(a->targets.type, b->targets.type);
      EXPECT_TRUE(b->samples == 0 || b->features.data == nullptr) << "nothing would be saved";
      if (a->samples == 0) continue;
      const std::vector<float> in_memory = All(**held, *a), from_files = All(**streamed, *b);
      EXPECT_EQ(0, std::memcmp(in_memory.data(), from_files.data(), in_memory.size() * sizeof(float)));
    }
  }

  template <typename T>
  static std::vector<T> Values(int64_t count, int64_t first = 0) {
    std::vector<T> values;
    for (int64_t i = first; i < first + count; ++i) {
      values.push_back(
          static_cast<T>(sizeof(T) == 1 ? static_cast<double>(i * 7 % 256) : static_cast<double>(i) * 0.37 - 2));
    }
    return values;
  }
  static std::vector<int64_t> Labels(int64_t count) {
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < count; ++i) labels.push_back(i % 10);
    return labels;
  }
  // Samples of 2 x 3.
  template <typename T>
  void WriteShards() const {
    Write("x-0.npy", NpyBytes<T>({13, 2, 3}, Values<T>(78)));
    Write("x-1.npy", NpyBytes<T>({7, 2, 3}, Values<T>(42, 78)));
    Write("y-0.npy", NpyBytes<int64_t>({13}, Labels(13)));
    Write("y-1.npy", NpyBytes<int64_t>({7}, Labels(7)));
    Write("t.npy", NpyBytes<T>({7, 2, 3}, Values<T>(42, 3)));
  }
};

const char* const kShards = R"({"numpy": {"train_features": ["x-*.npy"], "train_targets": ["y-*.npy"],
  "test_features": ["t.npy"], "test_targets": ["y-1.npy"], "scale": 0.3, "offset": -0.1}})";

TEST_F(StreamedTablesTest, NumpyOfEachType) {
  WriteShards<uint8_t>();
  ExpectTheSame(kShards, 10);
  WriteShards<float>();
  ExpectTheSame(kShards, 10);
  WriteShards<double>();
  ExpectTheSame(kShards, 10);
}

TEST_F(StreamedTablesTest, NumbersAsTargetsAndNoTestPart) {
  WriteShards<float>();
  Write("n.npy", NpyBytes<double>({13, 2}, Values<double>(26)));
  ExpectTheSame(R"({"numpy": {"train_features": ["x-0.npy"], "train_targets": ["n.npy"]}})", 0);
}

TEST_F(StreamedTablesTest, AHeldOutShare) {
  WriteShards<float>();
  ExpectTheSame(R"({"validation_fraction": 0.3, "numpy": {"train_features": ["x-*.npy"],
                    "train_targets": ["y-*.npy"]}})",
                10);
}

TEST_F(StreamedTablesTest, BothPartsOfOneSetAreReadAtOnce) {
  WriteShards<float>();
  const auto set = Open(R"({"validation_fraction": 0.5, "numpy": {"train_features": ["x-*.npy"],
                            "train_targets": ["y-*.npy"]}})",
                        true, 10);
  ASSERT_TRUE(set.ok()) << set.status();
  const std::vector<float> train = All(**set, (*set)->train()), test = All(**set, (*set)->test());
  std::thread other([&] {
    for (int i = 0; i < 200; ++i) ASSERT_EQ(All(**set, (*set)->train()), train);
  });
  for (int i = 0; i < 200; ++i) ASSERT_EQ(All(**set, (*set)->test()), test);
  other.join();
}

TEST_F(StreamedTablesTest, Cifar) {
  for (const auto& [name, count] : {std::pair{"a.bin", 5}, {"b.bin", 3}, {"t.bin", 4}}) {
    std::string records;
    for (int i = 0; i < count; ++i) {
      records += static_cast<char>(i % 10);
      for (const uint8_t pixel : Values<uint8_t>(3072, i)) records += static_cast<char>(pixel);
    }
    Write(name, records);
  }
  ExpectTheSame(R"({"cifar": {"path": ".", "train_files": ["a.bin", "b.bin"], "test_files": ["t.bin"]}})", 10);
}

TEST_F(StreamedTablesTest, WhatIsWrongIsNamed) {
  WriteShards<float>();
  const auto label = Open(kShards, true, 9);
  EXPECT_THAT(std::string(label.status().message()), AllOf(HasSubstr("y-0.npy"), HasSubstr("label 9")));
  std::filesystem::resize_file(Path("x-1.npy"), 300);
  EXPECT_THAT(std::string(Open(kShards, true, 10).status().message()), HasSubstr("x-1.npy"));
}

}  // namespace
}  // namespace lockstep
