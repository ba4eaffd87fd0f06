// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safe_path.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
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

TEST_F(SafePathTest, APatternStandsForTheFilesThatFit) {
  for (const char* name : {"p/x-10.npy", "p/x-2.npy", "p/x-.npy", "p/x.npy", "p/.x-3.npy", "p/x-2.npz", "p/[a]"}) {
    Write(absl::StrCat("second/", name), name);
  }
  const auto expand = [&](const std::string& pattern) {
    auto paths = ExpandUnderRoots(pattern, roots_);
    if (!paths.ok()) return std::vector<std::string>{std::string(paths.status().message())};
    for (std::string& path : *paths) {
      if (pattern.find('*') != std::string::npos) {
        EXPECT_TRUE(OpenUnderRoots(path, roots_).ok()) << path;
      }
      path = fs::path(path).filename();
    }
    return *paths;
  };
  EXPECT_THAT(expand("p/x-*.npy"), ElementsAre("x-.npy", "x-10.npy", "x-2.npy"));
  EXPECT_THAT(expand("p/*-*2*"), ElementsAre("x-2.npy", "x-2.npz"));
  EXPECT_THAT(expand("p/*z"), ElementsAre("x-2.npz"));
  EXPECT_THAT(expand("p/[*"), ElementsAre("[a]"));
  EXPECT_THAT(expand(Path("second/p/x.*")), ElementsAre("x.npy"));
  EXPECT_THAT(expand("p/none"), ElementsAre("none"));
  EXPECT_THAT(expand("p/x.npy.npy*"), ElementsAre(HasSubstr("no file of")));
  EXPECT_THAT(expand("*/x"), ElementsAre(HasSubstr("may only stand in the name of a file")));
  EXPECT_THAT(expand("../*"), ElementsAre(HasSubstr("outside the data folders")));
  EXPECT_THAT(expand("a/file/*"), ElementsAre(HasSubstr("is not a folder but a file")));
  EXPECT_THAT(expand("nowhere/*"), ElementsAre(HasSubstr("in none of the data folders")));
}

TEST_F(SafePathTest, APatternLeadsNowhereThatAPathDoesNot) {
  fs::create_symlink(Path("secret"), Path("root/a/fits"));
  const auto paths = ExpandUnderRoots("a/fi*", roots_);
  ASSERT_TRUE(paths.ok()) << paths.status();
  ASSERT_EQ(paths->size(), 2u);
  EXPECT_TRUE(OpenUnderRoots((*paths)[0], roots_).ok());
  EXPECT_EQ(OpenUnderRoots((*paths)[1], roots_).status().code(), absl::StatusCode::kPermissionDenied);
  fs::create_directory_symlink(Path(""), Path("root/up"));
  EXPECT_EQ(ExpandUnderRoots("up/*", roots_).status().code(), absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace lockstep
