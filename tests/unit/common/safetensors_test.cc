// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::vector<std::byte> bytes(sizeof(length) + header.size() + data_bytes);
  std::memcpy(bytes.data(), &length, sizeof(length));
  std::memcpy(bytes.data() + sizeof(length), header.data(), header.size());
  return bytes;
}

void ExpectRefused(const std::string& header, size_t data_bytes, const std::string& part) {
  const auto file = ParseSafetensors(File(header, data_bytes), "f");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss) << header;
  EXPECT_THAT(std::string(file.status().message()), HasSubstr(part)) << header;
}

class SafetensorsTest : public FolderTest {};

TEST_F(SafetensorsTest, ReadsWhatItWrites) {
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> b{7};
  const std::vector<TensorToWrite> tensors = {{"a", "F32", Shape{2, 3}, std::as_bytes(std::span(a))},
                                              {"b", "I64", Shape{}, std::as_bytes(std::span(b))},
                                              {"none", "F32", Shape{0, 4}, {}}};
  ASSERT_TRUE(WriteSafetensors(Path("m.safetensors"), tensors, {{"step", "3"}}).ok());
  const std::string raw = Slurp(Path("m.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, raw.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(raw[8], '{');
  EXPECT_FALSE(std::filesystem::exists(Path("m.safetensors.tmp")));
  const auto file = ReadSafetensors(Path("m.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("step"), "3");
  ASSERT_EQ(file->tensors.size(), 3u);
  for (const TensorRead& t : file->tensors) {
    if (t.name != "a") continue;
    EXPECT_EQ(t.shape, (Shape{2, 3}));
    EXPECT_EQ(std::memcmp(t.bytes.data(), a.data(), 24), 0);
  }
  EXPECT_EQ(file->tensors[0].name, "b");  // The widest type comes first.
}

TEST_F(SafetensorsTest, TheWriterRefusesWhatWouldNotRead) {
  const std::vector<float> a{1, 2};
  const auto bytes = std::as_bytes(std::span(a));
  EXPECT_FALSE(WriteSafetensors(Path("m"), {{"a", "F32", Shape{3}, bytes}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors(Path("m"), {{"a", "F32", Shape{2}, bytes}, {"a", "F32", Shape{2}, bytes}}, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(Path("m")));
}

TEST_F(SafetensorsTest, TheEmptyFileIsRight) { EXPECT_TRUE(ParseSafetensors(File("{}      ", 0), "f").ok()); }

TEST_F(SafetensorsTest, RefusesEveryBrokenHeader) {
  const auto entry = [](const char* dtype, const char* shape, int begin, int end) {
    return absl::StrCat("{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":[", begin, ",", end, "]}");
  };
  const std::string good = entry("F32", "[2]", 0, 8);
  EXPECT_TRUE(ParseSafetensors(File(absl::StrCat("{\"a\":", good, "}"), 8), "f").ok());
  ExpectRefused("[]", 0, "does not start with {");
  ExpectRefused("{\"a\":", 0, "not a JSON object");
  ExpectRefused("{\"a\xff\":1}", 0, "not a JSON object");
  ExpectRefused(absl::StrCat("{\"a\":", good, ",\"a\":", good, "}"), 8, "appears twice");
  ExpectRefused(absl::StrCat("{\"a\":", good, "}"), 9, "bytes after the last tensor");
  ExpectRefused(absl::StrCat("{\"a\":", good, "}"), 7, "outside the file");
  ExpectRefused(absl::StrCat("{\"a\":", entry("F32", "[2]", 4, 12), "}"), 12, "hole");
  ExpectRefused(absl::StrCat("{\"a\":", good, ",\"b\":", entry("F32", "[2]", 4, 12), "}"), 12, "overlap");
  ExpectRefused(absl::StrCat("{\"a\":", entry("F32", "[3]", 0, 8), "}"), 8, "do not fit its shape");
  ExpectRefused(absl::StrCat("{\"a\":", entry("F99", "[2]", 0, 8), "}"), 8, "unknown dtype");
  ExpectRefused(absl::StrCat("{\"a\":", entry("F32", "[-2]", 0, 8), "}"), 8, "natural number");
  ExpectRefused(absl::StrCat("{\"a\":", entry("F32", "[4294967296,4294967296]", 0, 8), "}"), 8, "too large");
  ExpectRefused("{\"__metadata__\":{\"a\":1}}", 0, "metadata");
  ExpectRefused(absl::StrCat("{\"a\":", std::string(100, '['), std::string(100, ']'), "}"), 0, "nested");
}

TEST_F(SafetensorsTest, TheHeaderAloneSaysTheSameWithoutBytes) {
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<TensorToWrite> tensors = {{"a", "F32", Shape{2, 3}, std::as_bytes(std::span(a))}};
  ASSERT_TRUE(WriteSafetensors(Path("m"), tensors, {{"step", "3"}}).ok());
  const TestFd whole(Path("m"));
  const auto header = ReadSafetensorsHeader(whole.get(), "m");
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata.at("step"), "3");
  ASSERT_EQ(header->tensors.size(), 1u);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[0].shape, (Shape{2, 3}));
  EXPECT_TRUE(header->tensors[0].bytes.empty());
  EXPECT_TRUE(header->storage.empty());
  // It is held against the file's length too; and reading twice from one descriptor is no matter.
  EXPECT_TRUE(ReadSafetensors(whole.get(), "m").ok());
  const std::string raw = Slurp(Path("m"));
  for (size_t size = 0; size < raw.size(); ++size) {
    const TestFd cut(Write("cut", raw.substr(0, size)));
    EXPECT_EQ(ReadSafetensorsHeader(cut.get(), "cut").status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST_F(SafetensorsTest, ALyingLengthIsRefused) {
  std::vector<std::byte> bytes = File("{}", 0);
  bytes[3] = std::byte{0x7f};
  EXPECT_FALSE(ParseSafetensors(bytes, "f").ok());
  EXPECT_FALSE(ParseSafetensors({}, "f").ok());
  EXPECT_EQ(ReadSafetensors(Path("none")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsTest, ManyNamesAreRefusedQuickly) {
  std::string header = "{";
  for (int i = 0; i < 500'000; ++i)
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"t", i, "\":{\"data_offsets\":[0,0]}");
  ExpectRefused(header + "}", 0, "");
}

}  // namespace
}  // namespace lockstep
