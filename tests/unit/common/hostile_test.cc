// SPDX-License-Identifier: Apache-2.0
// Files that want memory: what a file claims costs nothing until it is there.
#include <gmock/gmock.h>
#include <zlib.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/formats/array_reader.h"
#include "common/formats/cifar.h"
#include "common/formats/csv.h"
#include "common/formats/idx.h"
#include "common/formats/safetensors.h"
#include "tests/unit/common/bounded.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/zip_builder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

// Room for a reader's buffers and what a sanitizer adds.
constexpr int64_t kBound = int64_t{128} << 20;
constexpr int64_t kHuge = 1'000'000'000'000;

class HostileTest : public FolderTest {
 protected:
  // A file that begins with `start` and has holes up to `bytes`.
  std::string Sparse(const std::string& start, int64_t bytes) {
    const std::string path = Write("sparse", start);
    EXPECT_EQ(truncate(path.c_str(), bytes), 0);
    return path;
  }
  static void Expect(const std::string& part, const std::function<absl::Status()>& run) {
    const BoundedRun result = RunBounded(run);
    EXPECT_THAT(result.message, HasSubstr(part));
    EXPECT_LT(result.peak_bytes, kBound) << result.message;
  }
};

TEST_F(HostileTest, AnArrayOfATrillionValues) {
  const std::string header = absl::StrCat("{'descr': '|u1', 'fortran_order': False, 'shape': (", kHuge, ", )}");
  const std::string start =
      absl::StrCat("\x93NUMPY", std::string("\x01\0", 2), std::string(1, static_cast<char>(header.size())),
                   std::string(1, '\0'), header);
  const std::string path = Sparse(start, static_cast<int64_t>(start.size()) + kHuge);
  const TestFd fd(path);
  // The header is true, so it is read.
  ASSERT_TRUE(ReadNpyHeader(fd.get(), path).ok());
  ASSERT_EQ(truncate(path.c_str(), kHuge), 0);
  Expect("truncated", [&] { return ReadNpyHeader(fd.get(), path).status(); });
}

TEST_F(HostileTest, AnIdxFileOfManyGigabytes) {
  const std::string path = Sparse(std::string("\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", 12), kHuge);
  const TestFd fd(path);
  Expect("more than the limit", [&] { return ReadIdx(fd.get(), path).status(); });
}

TEST_F(HostileTest, AGzipBomb) {
  // Claims 4 GB; holds 64 MB of zeros in 64 kB.
  const std::string path = Path("bomb.gz");
  gzFile file = gzopen(path.c_str(), "wb9");
  const std::string header("\0\0\x08\x01\xf0\0\0\0", 8), zeros(1 << 20, '\0');
  gzwrite(file, header.data(), static_cast<unsigned>(header.size()));
  for (int i = 0; i < 64; ++i) gzwrite(file, zeros.data(), static_cast<unsigned>(zeros.size()));
  gzclose(file);
  const TestFd fd(path);
  Expect("more than 100 times as many", [&] { return ReadIdx(fd.get(), path).status(); });
}

TEST_F(HostileTest, ATableOfHugeRows) {
  const std::string path = Write("t.csv", absl::StrCat("a,b\n1,", std::string(10 << 20, '7'), "\n"));
  const TestFd fd(path);
  const auto ignore = [](int64_t, const std::vector<std::string>&) { return absl::OkStatus(); };
  Expect("row 2 is longer than 1 MiB", [&] { return ReadCsv(fd.get(), path, ignore); });
  const std::string holes = Sparse("a,b\n", kHuge);
  const TestFd sparse(holes);
  Expect("row 2 contains a NUL byte", [&] { return ReadCsv(sparse.get(), holes, ignore); });
}

TEST_F(HostileTest, AModelOfATerabyte) {
  const auto file = [&](const std::string& header, int64_t bytes) {
    const uint64_t length = header.size();
    std::string start(sizeof(length), '\0');
    std::memcpy(start.data(), &length, sizeof(length));
    return Sparse(start + header, static_cast<int64_t>(start.size() + header.size()) + bytes);
  };
  const std::string lies = file("{}", kHuge);
  Expect("bytes after the last tensor", [&] { return ReadSafetensors(lies).status(); });
  const std::string whole =
      file(absl::StrCat("{\"a\":{\"dtype\":\"U8\",\"shape\":[", kHuge, "],\"data_offsets\":[0,", kHuge, "]}}"), kHuge);
  Expect("do not fit into the", [&] { return ReadSafetensors(whole).status(); });
}

TEST_F(HostileTest, ARecordFileOfATerabyteIsCountedButNotRead) {
  const std::string path = Sparse("", kCifar10.record_bytes() * 325'000'000);
  const TestFd fd(path);
  EXPECT_EQ(CountCifarRecords(fd.get(), path, kCifar10).value(), 325'000'000);
}

TEST_F(HostileTest, AnArchiveThatUnpacksToLessThanItSays) {
  const std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (200000000,)}";
  ZipEntry entry = Deflated("x.npy", absl::StrCat("\x93NUMPY", std::string("\x01\0", 2), std::string(1, header.size()),
                                                  std::string(1, '\0'), header, std::string(1000, '\0')));
  entry.bytes = static_cast<uint32_t>(10 + header.size() + 200'000'000);
  const std::string path = Write("a.npz", Zip({entry}));
  const TestFd fd(path);
  Expect("a.npz:x", [&]() -> absl::Status {
    auto reader = ArrayReader::Open(fd.get(), "a.npz", "x");
    if (!reader.ok()) return reader.status();
    std::vector<uint8_t> piece(4096);
    for (;;) {
      if (absl::Status s = (*reader)->Read(piece.data(), piece.size()); !s.ok()) return s;
    }
  });
}

}  // namespace
}  // namespace lockstep
