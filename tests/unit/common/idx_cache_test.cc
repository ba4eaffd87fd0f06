// SPDX-License-Identifier: Apache-2.0
#include "common/formats/idx_cache.h"

#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <zlib.h>

#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class IdxCacheTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    cache_ = {.folder = Path("cache"), .limit_bytes = 1 << 20, .min_bytes = 1};
  }
  // A packed file of `count` bytes that begin with `first`.
  std::string Pack(const std::string& name, int first, int count = 1000) {
    std::vector<uint8_t> values(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<uint8_t>(first + i);
    EXPECT_TRUE(WriteIdx(Path("plain"), Shape{count / 10, 10}, values).ok());
    const std::string bytes = Slurp(Path("plain"));
    gzFile file = gzopen(Path(name).c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    return Path(name);
  }
  SharedIdx Share(const std::string& path) {
    const TestFd fd(path);
    auto data = ReadIdxCached(fd.get(), path, cache_);
    EXPECT_TRUE(data.ok()) << data.status();
    return *std::move(data);
  }
  IdxData Read(const std::string& path) {
    const SharedIdx data = Share(path);
    return {data.shape, {data.values.begin(), data.values.end()}};
  }
  std::vector<fs::path> Kept() {
    std::vector<fs::path> files;
    if (!fs::exists(cache_.folder)) return files;
    for (const auto& entry : fs::directory_iterator(cache_.folder)) files.push_back(entry.path());
    return files;
  }
  void ExpectSame(const std::string& path) {
    const TestFd fd(path);
    const IdxData plain = ReadIdx(fd.get(), path).value();
    const IdxData cached = Read(path);
    EXPECT_EQ(cached.shape, plain.shape);
    EXPECT_EQ(cached.values, plain.values);
  }

  IdxCache cache_;
};

TEST_F(IdxCacheTest, KeepsAndReadsAgain) {
  const std::string path = Pack("a.gz", 1);
  ExpectSame(path);
  ASSERT_EQ(Kept().size(), 1u);
  const auto written = fs::last_write_time(Kept()[0]);
  const fs::perms folder = fs::status(cache_.folder).permissions();
  EXPECT_EQ(folder & (fs::perms::group_all | fs::perms::others_all), fs::perms::none);
  ExpectSame(path);
  EXPECT_EQ(Kept().size(), 1u);
  EXPECT_GE(fs::last_write_time(Kept()[0]), written);
}

// Whoever unpacked it, too, holds the pages that others hold.
TEST_F(IdxCacheTest, IsInMemoryOnceForAll) {
  const std::string path = Pack("a.gz", 1, 60'000);
  const auto first = Share(path), second = Share(path);
  std::ifstream maps("/proc/self/maps");
  int mapped = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(Kept()[0]) != std::string::npos) mapped += line.find(" r--s ") != std::string::npos ? 1 : 100;
  }
  EXPECT_EQ(mapped, 2) << "shared, for reading";
  // Its name may go; what is mapped stays.
  fs::remove(Kept()[0]);
  EXPECT_EQ(first.values[1], 2);
  EXPECT_EQ(second.values[1], 2);
}

// What proves that it is really read: the kept values, changed together with their hash, come back.
TEST_F(IdxCacheTest, ReadsWhatIsKeptAndNotTheSource) {
  const std::string a = Pack("a.gz", 1), b = Pack("b.gz", 100);
  Read(a);
  const fs::path of_a = Kept()[0];
  Read(b);
  const fs::path of_b = Kept()[0] == of_a ? Kept()[1] : Kept()[0];
  fs::copy_file(of_b, of_a, fs::copy_options::overwrite_existing);
  EXPECT_EQ(Read(a).values, Read(b).values);
}

TEST_F(IdxCacheTest, FollowsTheContentAndNotThePath) {
  const std::string path = Pack("a.gz", 1);
  ExpectSame(path);
  Pack("a.gz", 2);
  ExpectSame(path);
  EXPECT_EQ(Read(path).values[0], 2);
  fs::copy_file(path, Path("other.gz"));
  ExpectSame(Path("other.gz"));
  EXPECT_EQ(Kept().size(), 2u);
}

TEST_F(IdxCacheTest, MakesAnewWhatIsDamaged) {
  const std::string path = Pack("a.gz", 1);
  Read(path);
  const std::string kept = Kept()[0], whole = Slurp(kept);
  std::string flipped = whole;
  flipped[500] ^= 1;
  std::string shape = whole;
  shape[shape.size() - 32 - 64] ^= 1;
  for (const std::string& bad : {flipped, shape, whole.substr(0, whole.size() - 1), whole + "x", std::string("?"),
                                 std::string(whole.size(), '\0'), std::string()}) {
    fs::remove(kept);
    std::ofstream(kept, std::ios::binary) << bad;
    ExpectSame(path);
    EXPECT_EQ(Slurp(kept), whole) << bad.size();
  }
}

TEST_F(IdxCacheTest, LeavesOutOldFilesAndLargeOnes) {
  cache_.limit_bytes = 25'000;
  std::vector<std::string> paths;
  for (int i = 0; i < 4; ++i) {
    paths.push_back(Pack(std::to_string(i) + ".gz", i, 8000));
    Read(paths.back());
    for (const fs::path& file : Kept()) {
      // As if each were used an hour after the one before.
      fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(1));
    }
  }
  uint64_t total = 0;
  for (const fs::path& file : Kept()) total += fs::file_size(file);
  EXPECT_LE(total, cache_.limit_bytes);
  EXPECT_GE(Kept().size(), 2u);
  // The newest one is still there: reading it writes nothing.
  const size_t before = Kept().size();
  ExpectSame(paths.back());
  EXPECT_EQ(Kept().size(), before);
  cache_.folder = Path("other");
  ExpectSame(Pack("large.gz", 1, 20'000));
  EXPECT_TRUE(Kept().empty());
}

TEST_F(IdxCacheTest, UsesNoFolderThatOthersMayWriteTo) {
  fs::create_directory(cache_.folder);
  fs::permissions(cache_.folder, fs::perms::all);
  ExpectSame(Pack("a.gz", 1));
  EXPECT_TRUE(Kept().empty());
  fs::remove(cache_.folder);
  fs::create_directory(Path("elsewhere"));
  fs::create_directory_symlink(Path("elsewhere"), cache_.folder);
  ExpectSame(Pack("a.gz", 1));
  EXPECT_TRUE(Kept().empty());
}

TEST_F(IdxCacheTest, TakesAnUnusableFolderForNone) {
  Write("cache", "a file");
  ExpectSame(Pack("a.gz", 1));
  cache_.folder = "/proc/nothing/here";
  ExpectSame(Pack("b.gz", 1));
  cache_.folder = "";
  ExpectSame(Pack("c.gz", 1));
}

TEST_F(IdxCacheTest, SaysWhatIsWrongWithTheSource) {
  const std::string path = Pack("a.gz", 1);
  const std::string bytes = Slurp(path);
  const std::string cut = Write("cut.gz", bytes.substr(0, bytes.size() / 2));
  const TestFd fd(cut);
  const auto data = ReadIdxCached(fd.get(), cut, cache_);
  EXPECT_EQ(data.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Kept().empty());
}

// The second one waits for the first one's lock, then finds the file.
TEST_F(IdxCacheTest, OneUnpacksForAll) {
  const std::string path = Pack("a.gz", 1);
  Read(path);
  const std::string kept = Kept()[0];
  const std::string whole = Slurp(kept);
  fs::remove(kept);
  const std::string part = kept + ".part";
  const int lock = open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  auto second = std::async(std::launch::async, [&] { return Read(path); });
  ASSERT_EQ(write(lock, whole.data(), whole.size()), static_cast<ssize_t>(whole.size()));
  ASSERT_EQ(rename(part.c_str(), kept.c_str()), 0);
  struct stat mine {};
  ASSERT_EQ(fstat(lock, &mine), 0);
  close(lock);
  EXPECT_EQ(second.get().values[0], 1);
  struct stat now {};
  ASSERT_EQ(stat(kept.c_str(), &now), 0);
  EXPECT_EQ(now.st_ino, mine.st_ino);
}

TEST_F(IdxCacheTest, IsChosenByTheEnvironment) {
  setenv("LOCKSTEP_CACHE_DIR", "/somewhere", 1);
  EXPECT_EQ(IdxCacheFromEnvironment().folder, "/somewhere");
  setenv("LOCKSTEP_CACHE_DIR", "off", 1);
  EXPECT_EQ(IdxCacheFromEnvironment().folder, "");
  unsetenv("LOCKSTEP_CACHE_DIR");
  setenv("HOME", "/home/somebody", 1);
  EXPECT_EQ(IdxCacheFromEnvironment().folder, "/home/somebody/.cache/lockstep/unpacked");
  unsetenv("HOME");
  EXPECT_EQ(IdxCacheFromEnvironment().folder, "");
}

}  // namespace
}  // namespace lockstep
