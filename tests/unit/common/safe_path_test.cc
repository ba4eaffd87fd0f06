// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safe_path.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SafePathTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    Write("root/a/file", "inside");
    Write("second/other", "second");
    Write("secret", "outside");
    roots_ = {Path("root"), Path("second")};
  }
  std::string Content(const std::string& path, const std::vector<std::string>& endings = {""}) {
    const auto file = OpenUnderRoots(path, roots_, endings);
    if (!file.ok()) return std::string(file.status().message());
    char text[100];
    const ssize_t n = read(file->fd(), text, sizeof(text));
    return {text, static_cast<size_t>(std::max<ssize_t>(n, 0))};
  }
  absl::StatusCode Code(const std::string& path) { return OpenUnderRoots(path, roots_).status().code(); }

  std::vector<std::string> roots_;
};

TEST_F(SafePathTest, OpensBelowTheFirstRootThatHasIt) {
  EXPECT_EQ(Content("a/file"), "inside");
  EXPECT_EQ(Content("a/../a/file"), "inside");
  EXPECT_EQ(Content("other"), "second");
  EXPECT_EQ(Content(Path("root/a/file")), "inside");
  EXPECT_EQ(ResolveUnderRoots("a/file", roots_).value(), fs::canonical(Path("root/a/file")).string());
}

TEST_F(SafePathTest, WhatIsNotThereIsNamedWithTheRoots) {
  EXPECT_EQ(Code("a/none"), absl::StatusCode::kNotFound);
  EXPECT_THAT(Content("a/none"), HasSubstr(roots_[0] + ", " + roots_[1]));
  roots_.clear();
  EXPECT_THAT(Content("a"), HasSubstr("none is set"));
}

TEST_F(SafePathTest, PathsOutsideAreRefused) {
  for (const std::string& path : {std::string("../secret"), std::string("a/../../secret"), Path("secret"),
                                  std::string("/etc/passwd"), Path("root/../secret"), Path("root-not/file")}) {
    EXPECT_EQ(Code(path), absl::StatusCode::kPermissionDenied) << path;
    EXPECT_THAT(Content(path), HasSubstr("outside the data folders")) << path;
  }
}

TEST_F(SafePathTest, LinksMayStayInsideButNotLeadOut) {
  fs::create_symlink("a/file", Path("root/relative"));
  fs::create_symlink(Path("root/a/file"), Path("root/absolute"));
  fs::create_symlink(Path("second"), Path("root/to-second"));
  fs::create_symlink("../secret", Path("root/out"));
  fs::create_symlink(Path("secret"), Path("root/absolute-out"));
  fs::create_symlink("..", Path("root/up"));
  fs::create_symlink("loop", Path("root/loop"));
  EXPECT_EQ(Content("relative"), "inside");
  EXPECT_EQ(Content("absolute"), "inside");
  EXPECT_EQ(Content("to-second/other"), "second");
  for (const char* path : {"out", "absolute-out", "up/secret"}) {
    EXPECT_EQ(Code(path), absl::StatusCode::kPermissionDenied) << path;
  }
  EXPECT_FALSE(OpenUnderRoots("loop", roots_).ok());
}

TEST_F(SafePathTest, OnlyRegularFilesAreOpened) {
  ASSERT_EQ(mkfifo(Path("root/fifo").c_str(), 0600), 0);
  EXPECT_THAT(Content("fifo"), HasSubstr("not a regular file but a device, FIFO or socket"));
  EXPECT_THAT(Content("a"), HasSubstr("a folder"));
  EXPECT_THAT(Content(Path("root")), HasSubstr("a folder"));
  EXPECT_FALSE(OpenUnderRoots("", roots_).ok());
  EXPECT_FALSE(OpenUnderRoots(std::string("a\0b", 3), roots_).ok());
}

TEST_F(SafePathTest, EndingsAreTriedInTurn) {
  Write("root/x.gz", "packed");
  EXPECT_EQ(Content("x", {"", ".gz"}), "packed");
  Write("root/x", "plain");
  EXPECT_EQ(Content("x", {"", ".gz"}), "plain");
}

}  // namespace
}  // namespace lockstep
