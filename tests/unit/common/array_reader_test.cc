// SPDX-License-Identifier: Apache-2.0
#include "common/formats/array_reader.h"

#include <gmock/gmock.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/formats/memory_limit.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/zip_builder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A .npy file of one axis.
template <typename T>
std::string Array(const char* code, const std::vector<T>& values) {
  const std::string header =
      absl::StrCat("{'descr': '", code, "', 'fortran_order': False, 'shape': (", values.size(), ",)}");
  std::string bytes = absl::StrCat("\x93NUMPY", std::string("\x01\0", 2));
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  return bytes + header + std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

class ArrayReaderTest : public FolderTest {
 protected:
  // All values of an array as floats.
  absl::StatusOr<std::vector<float>> Read(const std::string& path, const std::string& member = "") {
    const TestFd fd(path);
    return ReadOpen(fd.get(), std::filesystem::path(path).filename(), member);
  }
  // Of bytes that are no file of a folder: quick enough for thousands.
  absl::StatusOr<std::vector<float>> ReadBytes(const std::string& bytes) {
    const int fd = memfd_create("a.npz", MFD_CLOEXEC);
    EXPECT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    auto values = ReadOpen(fd, "a.npz", "x");
    close(fd);
    return values;
  }
  absl::StatusOr<std::vector<float>> ReadOpen(int fd, const std::string& name, const std::string& member) {
    auto reader = ArrayReader::Open(fd, name, member);
    if (!reader.ok()) return reader.status();
    name_ = (*reader)->name();
    std::vector<float> values(static_cast<size_t>((*reader)->header().shape.elements()));
    if (absl::Status s = (*reader)->ReadFloats(values.data(), static_cast<int64_t>(values.size())); !s.ok()) return s;
    if (absl::Status s = (*reader)->Finish(); !s.ok()) return s;
    return values;
  }
  void ExpectRefused(const std::vector<ZipEntry>& entries, const std::string& part, const std::string& member = "x") {
    ExpectBytesRefused(Zip(entries), part, member);
  }
  void ExpectBytesRefused(const std::string& bytes, const std::string& part, const std::string& member = "x") {
    const auto values = Read(Write("a.npz", bytes), member);
    EXPECT_FALSE(values.ok()) << part;
    EXPECT_THAT(std::string(values.status().message()), HasSubstr("a.npz"));
    EXPECT_THAT(std::string(values.status().message()), HasSubstr(part));
  }
  std::string name_;
};

TEST_F(ArrayReaderTest, ReadsEveryTypeAsFloats) {
  for (int i = 0; i <= static_cast<int>(NpyType::kF64); ++i) {
    const auto type = static_cast<NpyType>(i);
    const auto values = Read(TestData(absl::StrCat("arrays/", NameOf(type), ".npy")));
    ASSERT_TRUE(values.ok()) << values.status();
    if (type == NpyType::kBool) {
      EXPECT_THAT(*values, ElementsAre(0, 1, 1, 1, 1, 1));
    } else {
      EXPECT_THAT(*values, ElementsAre(0, 1, 2, 3, 4, 5)) << NameOf(type);
    }
  }
}

TEST_F(ArrayReaderTest, ReadsArchivesThatNumpyWrote) {
  for (const char* name : {"arrays/stored.npz", "arrays/packed.npz"}) {
    EXPECT_THAT(Read(TestData(name), "x").value(), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_THAT(Read(TestData(name), "y").value(), ElementsAre(0, 1));
    EXPECT_THAT(std::string(Read(TestData(name)).status().message()), HasSubstr("it has x, y"));
    EXPECT_THAT(std::string(Read(TestData(name), "z").status().message()), HasSubstr("no array \"z\"; it has x, y"));
  }
  EXPECT_THAT(Read(TestData("arrays/one.npz")).value(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(name_, "one.npz:arr_0");
}

TEST_F(ArrayReaderTest, ValuesThatDoNotFitAreNamed) {
  const auto floats = Read(Write("a.npy", Array<double>("<f8", {1, 1e300})));
  EXPECT_THAT(std::string(floats.status().message()), HasSubstr("a.npy: value 0 of row 1 is not a finite number"));
  EXPECT_FALSE(Read(Write("a.npy", Array<float>("<f4", {std::nanf("")}))).ok());
  const auto integers = [&](const std::string& bytes) {
    const TestFd fd(Write("a.npy", bytes));
    std::vector<int32_t> values(2);
    return ArrayReader::Open(fd.get(), "a.npy", "").value()->ReadInt32s(values.data(), 2);
  };
  EXPECT_TRUE(integers(Array<uint64_t>("<u8", {0, 2147483647})).ok());
  EXPECT_FALSE(integers(Array<uint64_t>("<u8", {0, 2147483648})).ok());
  EXPECT_FALSE(integers(Array<int64_t>("<i8", {0, -2147483649})).ok());
  EXPECT_TRUE(integers(Array<double>("<f8", {-2147483648.0, 7})).ok());
  EXPECT_FALSE(integers(Array<double>("<f8", {0, 0.5})).ok());
  EXPECT_FALSE(integers(Array<double>("<f8", {0, std::nan("")})).ok());
}

TEST_F(ArrayReaderTest, ManyValuesAreReadInPieces) {
  std::vector<int16_t> numbers(10'000);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int16_t>(i);
  const auto values = Read(Write("a.npz", Zip({Deflated("x.npy", Array("<i2", numbers))})), "x");
  ASSERT_TRUE(values.ok()) << values.status();
  for (size_t i = 0; i < numbers.size(); ++i) ASSERT_EQ((*values)[i], numbers[i]);
}

TEST_F(ArrayReaderTest, EveryCutAndManyChangesOfAnArchiveAreRefusedOrRead) {
  for (const char* name : {"arrays/stored.npz", "arrays/packed.npz"}) {
    const std::string whole = Slurp(TestData(name));
    for (size_t n = 0; n < whole.size(); ++n) {
      EXPECT_FALSE(ReadBytes(whole.substr(0, n)).ok()) << n;
    }
    for (size_t n = 0; n < whole.size(); ++n) {
      std::string changed = whole;
      changed[n] = static_cast<char>(changed[n] ^ 0xff);
      // Dates and the like do not matter; values that are read are right.
      const auto values = ReadBytes(changed);
      if (values.ok()) {
        EXPECT_THAT(*values, ElementsAre(0, 1, 2, 3, 4, 5)) << n;
      }
    }
  }
}

TEST_F(ArrayReaderTest, ArchivesThatLieAreRefused) {
  const std::string array = Array<uint8_t>("|u1", {1, 2, 3});
  ASSERT_TRUE(Read(Write("a.npz", Zip({Stored("x.npy", array)})), "x").ok());
  ExpectBytesRefused("PK\x03\x04 and nothing", "not a zip archive");
  ExpectRefused({}, "not a zip archive");
  ExpectRefused({Stored("x.txt", array)}, "it has none");
  ExpectRefused({Stored("x.npy", array), Stored("x.npy", array)}, "two members are called \"x.npy\"");
  ExpectRefused({Stored(std::string(2000, 'n'), array)}, "a name of more than 1024 bytes");
  ExpectRefused({Stored("", array)}, "has no name");
  ExpectRefused({Stored("x.npy", array + "more")}, "the header promises");
  ExpectRefused({Stored("x.npy", array.substr(0, 60))}, "the header promises");
  ZipEntry entry = Stored("x.npy", array);
  entry.flags = 1;
  ExpectRefused({entry}, "is encrypted");
  entry = Stored("x.npy", array);
  entry.method = 12;
  ExpectRefused({entry}, "is packed by method 12");
  entry = Stored("x.npy", array);
  entry.bytes = 1 << 30;
  ExpectRefused({entry}, "but claims 1073741824");
  entry = Stored("x.npy", array);
  ++entry.crc;
  ExpectRefused({entry}, "checksum");
  entry = Deflated("x.npy", array);
  entry.packed[entry.packed.size() / 2] ^= 0x55;
  ExpectRefused({entry}, "");
  entry = Deflated("x.npy", array);
  entry.claimed_packed = 1 << 30;
  ExpectRefused({entry}, "");
}

TEST_F(ArrayReaderTest, TooManyMembersAreRefused) {
  std::vector<ZipEntry> entries;
  for (size_t i = 0; i <= kMaxZipMembers; ++i) entries.push_back(Stored(absl::StrCat(i, ".npy"), ""));
  ExpectRefused(entries, "more than 10000 members");
}

TEST_F(ArrayReaderTest, AZipBombIsRefusedByWhatItClaims) {
  const std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000,)}";
  ZipEntry bomb = Deflated("x.npy", absl::StrCat("\x93NUMPY", std::string("\x01\0", 2), std::string(1, header.size()),
                                                 std::string(1, '\0'), header, std::string(100'000, '\0')));
  bomb.bytes = static_cast<uint32_t>(10 + header.size() + 1'000'000'000);
  ExpectRefused({bomb}, "more than 100 times as many");
  // Below the limit what is really there counts.
  const std::string small = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000,)}";
  bomb = Deflated("x.npy", absl::StrCat("\x93NUMPY", std::string("\x01\0", 2), std::string(1, small.size()),
                                        std::string(1, '\0'), small, std::string(100'000, '\0')));
  bomb.bytes = static_cast<uint32_t>(10 + small.size() + 10'000'000);
  ExpectRefused({bomb}, "");
}

}  // namespace
}  // namespace lockstep
