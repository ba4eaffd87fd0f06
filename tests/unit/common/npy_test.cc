// SPDX-License-Identifier: Apache-2.0
#include "common/formats/npy.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

// What NumPy writes in front of the values, without the blanks that align them.
std::string Npy(const std::string& dictionary, const std::string& values = "", int version = 1) {
  std::string bytes = absl::StrCat("\x93NUMPY", std::string{static_cast<char>(version), '\0'});
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes += static_cast<char>(dictionary.size() >> (8 * i));
  return absl::StrCat(bytes, dictionary, values);
}

class NpyTest : public FolderTest {
 protected:
  absl::StatusOr<NpyHeader> Header(const std::string& bytes) {
    const TestFd fd(Write("a.npy", bytes));
    return ReadNpyHeader(fd.get(), "a.npy");
  }
  void ExpectRefused(const std::string& bytes, const std::string& part,
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const auto header = Header(bytes);
    EXPECT_EQ(header.status().code(), code) << part;
    EXPECT_THAT(std::string(header.status().message()), HasSubstr("a.npy: "));
    EXPECT_THAT(std::string(header.status().message()), HasSubstr(part));
  }
  void ExpectFixtureRefused(const std::string& name, const std::string& part) {
    ExpectRefused(Slurp(TestData(absl::StrCat("arrays/", name, ".npy"))), part);
  }
};

TEST_F(NpyTest, ReadsEveryTypeThatNumpyWrites) {
  for (int i = 0; i <= static_cast<int>(NpyType::kF64); ++i) {
    const auto type = static_cast<NpyType>(i);
    const std::string path = TestData(absl::StrCat("arrays/", NameOf(type), ".npy"));
    const TestFd fd(path);
    const auto header = ReadNpyHeader(fd.get(), path);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->dtype, type);
    EXPECT_EQ(header->shape, (Shape{2, 3}));
    EXPECT_EQ(header->data_bytes(), 6 * static_cast<int64_t>(SizeOf(type)));
    EXPECT_EQ(header->data_offset + header->data_bytes(), static_cast<int64_t>(std::filesystem::file_size(path)));
  }
}

TEST_F(NpyTest, ReadsEveryVersionAndRank) {
  for (const char* name : {"version1", "version2", "version3"}) {
    const auto header = Header(Slurp(TestData(absl::StrCat("arrays/", name, ".npy"))));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->shape, (Shape{2, 3}));
  }
  EXPECT_EQ(Header(Slurp(TestData("arrays/scalar.npy")))->shape, Shape{});
  EXPECT_EQ(Header(Slurp(TestData("arrays/line.npy")))->shape, Shape{5});
  EXPECT_EQ(Header(Slurp(TestData("arrays/empty.npy")))->shape, (Shape{0, 3}));
}

TEST_F(NpyTest, RefusesWhatIsNotRead) {
  ExpectFixtureRefused("fortran", "numpy.ascontiguousarray");
  ExpectFixtureRefused("big_endian", "\">f4\"; convert it");
  ExpectFixtureRefused("half", "\"<f2\"; convert it");
  ExpectFixtureRefused("text", "\"<U2\"; convert it");
  ExpectFixtureRefused("objects", "\"|O\"; convert it");
  ExpectFixtureRefused("records", "it holds records");
}

TEST_F(NpyTest, EveryCutIsRefused) {
  const std::string whole = Slurp(TestData("arrays/float32.npy"));
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(Header(whole.substr(0, n)).ok()) << n;
  ExpectRefused(whole.substr(0, whole.size() - 1), "truncated: the header promises 152 bytes, the file has 151",
                absl::StatusCode::kDataLoss);
  ExpectRefused(whole + "x", "1 bytes too many", absl::StatusCode::kDataLoss);
  ExpectRefused("", "truncated", absl::StatusCode::kDataLoss);
}

TEST_F(NpyTest, TheDictionaryMayBeWrittenInAnyWay) {
  const auto header = Header(Npy("{\"shape\":(2L,),'fortran_order':True,'descr':'>u1'}", "ab", 2));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->shape, Shape{2});
}

TEST_F(NpyTest, AWrongDictionaryIsRefusedWithItsPlace) {
  ExpectRefused("PK\x03\x04 and more", "does not start with");
  ExpectRefused(Npy("{}", "", 4), "version is 4");
  ExpectRefused(Npy(""), "byte 0: expected {");
  ExpectRefused(Npy("{"), "expected text in quotes");
  ExpectRefused(Npy("{'descr"), "never closed");
  ExpectRefused(Npy("{'descr': '<f4', 'descr': '<f4'}"), "\"descr\" is unknown or given twice");
  ExpectRefused(Npy("{'strides': (1,)}"), "\"strides\" is unknown");
  ExpectRefused(Npy("{'descr': '<f4', 'shape': (1,)}"), "not all of descr, fortran_order and shape");
  ExpectRefused(Npy("{'fortran_order': Maybe}"), "True or False");
  ExpectRefused(Npy("{'shape': (-1,)}"), "length of an axis");
  ExpectRefused(Npy("{'shape': (1 2)}"), "expected ,");
  ExpectRefused(Npy("{'shape': (1,1,1,1,1,1,1,1,1)}"), "more than 8 axes");
  ExpectRefused(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x"), "behind the dictionary");
  ExpectRefused(Npy(std::string("{\0", 2)), "expected text in quotes");
}

TEST_F(NpyTest, AHugeClaimCostsNothing) {
  ExpectRefused(Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", "12345678"),
                "truncated: the header promises 8000000000", absl::StatusCode::kDataLoss);
  for (const char* shape : {"(99999999999999999999,)", "(4294967296, 4294967296)", "(0, 4294967296, 4294967296)",
                            "(9223372036854775807,)"}) {
    const auto header = Header(Npy(absl::StrCat("{'descr': '<f8', 'fortran_order': False, 'shape': ", shape, "}")));
    EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument) << shape;
  }
  ExpectRefused(absl::StrCat("\x93NUMPY\x02", std::string(1, '\0'), "\xff\xff\xff\xff"),
                "4294967295 bytes is too long");
}

}  // namespace
}  // namespace lockstep
