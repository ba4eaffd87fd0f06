// SPDX-License-Identifier: Apache-2.0
// A folder of its own for each test, removed at the end.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace lockstep {

class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "lockstep-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }
  static std::string Slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // A committed file of tests/unit/common/testdata.
  static std::string TestData(const std::string& name) {
    const char* source = std::getenv("LOCKSTEP_SOURCE_DIR");
    return std::string(source == nullptr ? "." : source) + "/tests/unit/common/testdata/" + name;
  }

  std::filesystem::path folder_;
};

// An open file for reading; closes itself.
class TestFd {
 public:
  explicit TestFd(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~TestFd() { close(fd_); }
  TestFd(const TestFd&) = delete;
  TestFd& operator=(const TestFd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace lockstep
