// SPDX-License-Identifier: Apache-2.0
#include "common/formats/idx.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

std::string Bytes(std::initializer_list<int> values) {
  std::string s;
  for (int v : values) s.push_back(static_cast<char>(v));
  return s;
}

// Two images of 1 x 3.
const std::string kSmall = Bytes({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6});

class IdxTest : public FolderTest {
 protected:
  std::string Gzip(const std::string& bytes) {
    const std::string path = Path("packed.gz");
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    return Slurp(path);
  }
  absl::StatusOr<IdxData> Read(const std::string& bytes) {
    const TestFd fd(Write("file", bytes));
    return ReadIdx(fd.get(), "file");
  }
  absl::StatusOr<Shape> Header(const std::string& bytes) {
    const TestFd fd(Write("file", bytes));
    return ReadIdxHeader(fd.get(), "file");
  }
  void ExpectRefused(const std::string& bytes, absl::StatusCode code, const std::string& part) {
    const auto read = Read(bytes);
    EXPECT_EQ(read.status().code(), code) << read.status();
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(part));
  }
};

TEST_F(IdxTest, ReadsPlainAndCompressed) {
  for (const std::string& bytes : {kSmall, Gzip(kSmall), Gzip(kSmall.substr(0, 7)) + Gzip(kSmall.substr(7))}) {
    const auto data = Read(bytes);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ(data->shape, (Shape{2, 1, 3}));
    EXPECT_EQ(data->values, (std::vector<uint8_t>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(Header(bytes).value(), (Shape{2, 1, 3}));
  }
}

TEST_F(IdxTest, WritesWhatItReads) {
  ASSERT_TRUE(WriteIdx(Path("out"), Shape{2, 1, 3}, {1, 2, 3, 4, 5, 6}).ok());
  EXPECT_EQ(Slurp(Path("out")), kSmall);
  EXPECT_FALSE(WriteIdx(Path("no/such/folder"), Shape{1}, {1}).ok());
}

TEST_F(IdxTest, EveryCutIsRefused) {
  for (size_t n = 0; n < kSmall.size(); ++n) EXPECT_FALSE(Read(kSmall.substr(0, n)).ok()) << n;
  const std::string packed = Gzip(kSmall);
  for (size_t n = 0; n < packed.size(); ++n) EXPECT_FALSE(Read(packed.substr(0, n)).ok()) << n;
  ExpectRefused(kSmall.substr(0, 20), absl::StatusCode::kDataLoss, "truncated");
  EXPECT_EQ(Header(kSmall.substr(0, 20)).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(IdxTest, BytesBehindTheEndAreRefused) {
  ExpectRefused(kSmall + "x", absl::StatusCode::kDataLoss, "after the values");
  ExpectRefused(Gzip(kSmall + "x"), absl::StatusCode::kDataLoss, "after the values");
  ExpectRefused(Gzip(kSmall) + "x", absl::StatusCode::kDataLoss, "after the end of the compressed data");
  EXPECT_THAT(std::string(Header(kSmall + "x").status().message()), HasSubstr("1 bytes too many"));
}

TEST_F(IdxTest, DamageInsideCompressedDataIsFound) {
  std::string packed = Gzip(kSmall);
  packed[packed.size() - 6] ^= 1;  // The checksum.
  ExpectRefused(packed, absl::StatusCode::kDataLoss, "damaged");
}

TEST_F(IdxTest, WrongMagicIsRefused) {
  ExpectRefused("PNG and more bytes", absl::StatusCode::kInvalidArgument, "not an IDX file");
  ExpectRefused(Bytes({0, 0, 0x0d, 1, 0, 0, 0, 0}), absl::StatusCode::kInvalidArgument, "00 00 0d 01");
  ExpectRefused(Bytes({0, 0, 8, 0}), absl::StatusCode::kInvalidArgument, "not an IDX file");
  ExpectRefused(Bytes({0, 0, 8, 9}), absl::StatusCode::kInvalidArgument, "not an IDX file");
}

TEST_F(IdxTest, AHugeClaimCostsNothing) {
  const std::string claim = Bytes({0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255});
  ExpectRefused(claim, absl::StatusCode::kInvalidArgument, "more than the limit");
  ExpectRefused(Bytes({0, 0, 8, 1, 255, 255, 255, 255, 1}), absl::StatusCode::kDataLoss, "truncated");
}

}  // namespace
}  // namespace lockstep
