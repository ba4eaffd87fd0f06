// SPDX-License-Identifier: Apache-2.0
#include "common/failpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace lockstep {
namespace {

class FailpointsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-failpoints-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string path() const { return dir_ + "/points"; }
  void Write(const std::string& text) {
    std::filesystem::remove_all(path() + ".fired");
    std::ofstream(path()) << text;
  }
  std::unique_ptr<Failpoints> Load(int rank = 0) {
    auto failpoints = Failpoints::Load(path(), rank);
    EXPECT_TRUE(failpoints.ok()) << failpoints.status();
    return failpoints.ok() ? std::move(*failpoints) : nullptr;
  }
  // How a process ends, or is stopped, that loads the file and comes by the place `times` times.
  int StatusOfChild(const std::string& name, int times = 1) {
    const pid_t pid = fork();
    if (pid == 0) {
      auto failpoints = Failpoints::Load(path(), 0);
      if (!failpoints.ok()) _exit(99);
      for (int i = 0; i < times; ++i) (*failpoints)->Hit(name).IgnoreError();
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, WUNTRACED);
    if (WIFSTOPPED(status)) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    return status;
  }

  std::string dir_;
};

TEST_F(FailpointsTest, WithoutAFileNothingHappens) {
  EXPECT_TRUE(HitFailpoint(nullptr, "anything").ok());
  EXPECT_EQ(Failpoints::Load(dir_ + "/none", 0).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(FailpointsTest, ActsAtItsPlaceOnly) {
  Write("# all of it\n\n  step.forward error # here\n");
  const auto failpoints = Load();
  EXPECT_TRUE(failpoints->Hit("step.for").ok());
  EXPECT_TRUE(failpoints->Hit("step.forward2").ok());
  EXPECT_EQ(failpoints->Hit("step.forward").code(), absl::StatusCode::kUnavailable);
}

TEST_F(FailpointsTest, ActsOnceForAllProcesses) {
  Write("a error\n");
  EXPECT_FALSE(Load()->Hit("a").ok());
  const auto later = Load();
  EXPECT_TRUE(later->Hit("a").ok());
  std::filesystem::remove_all(path() + ".fired");
  EXPECT_FALSE(Load()->Hit("a").ok());
}

TEST_F(FailpointsTest, OfProcessesThatComeByTogetherOneIsHit) {
  Write("a kill\n");
  std::vector<pid_t> pids;
  for (int i = 0; i < 8; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      auto failpoints = Failpoints::Load(path(), i);
      while (!std::filesystem::exists(dir_ + "/go")) std::this_thread::yield();
      (*failpoints)->Hit("a").IgnoreError();
      _exit(0);
    }
    pids.push_back(pid);
  }
  std::ofstream(dir_ + "/go") << "";
  int killed = 0;
  for (const pid_t pid : pids) {
    int status = 0;
    waitpid(pid, &status, 0);
    killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  EXPECT_EQ(killed, 1);
}

TEST_F(FailpointsTest, TwoLinesOfOnePlaceActEach) {
  Write("a error\na error hit=2\na error hit=4\n");
  const auto failpoints = Load();
  EXPECT_FALSE(failpoints->Hit("a").ok());
  EXPECT_FALSE(failpoints->Hit("a").ok());
  EXPECT_TRUE(failpoints->Hit("a").ok());
  EXPECT_FALSE(failpoints->Hit("a").ok());
  EXPECT_TRUE(failpoints->Hit("a").ok());
}

TEST_F(FailpointsTest, AlwaysActsInEveryProcessFromItsTurnOn) {
  Write("a error hit=2 always\n");
  for (const auto& failpoints : {Load(0), Load(1)}) {
    EXPECT_TRUE(failpoints->Hit("a").ok());
    EXPECT_FALSE(failpoints->Hit("a").ok());
    EXPECT_FALSE(failpoints->Hit("a").ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(path() + ".fired"));
}

TEST_F(FailpointsTest, AProcessThatEndsUsesUpOneLine) {
  Write("a kill\na exit\na kill\n");
  EXPECT_EQ(StatusOfChild("a"), SIGKILL);
  const int left = StatusOfChild("a");
  EXPECT_TRUE(WIFEXITED(left) && WEXITSTATUS(left) == 1);
  EXPECT_EQ(StatusOfChild("a"), SIGKILL);
  EXPECT_EQ(StatusOfChild("a"), 0);
}

TEST_F(FailpointsTest, ALineForARankIsForThatRank) {
  Write("a error rank=2\n");
  EXPECT_TRUE(Load(0)->Hit("a").ok());
  EXPECT_TRUE(Load(-1)->Hit("a").ok());
  EXPECT_FALSE(Load(2)->Hit("a").ok());
}

TEST_F(FailpointsTest, ItsTurnIsCountedInTheRankThatItIsFor) {
  Write("a error rank=1 hit=2\n");
  const auto other = Load(0), meant = Load(1);
  EXPECT_TRUE(other->Hit("a").ok());
  EXPECT_TRUE(other->Hit("a").ok());
  EXPECT_TRUE(meant->Hit("a").ok());
  EXPECT_FALSE(meant->Hit("a").ok());
}

TEST_F(FailpointsTest, EndsTheProcess) {
  Write("k kill\nx exit\ns stop\nh kill hit=3\n");
  EXPECT_EQ(StatusOfChild("k"), SIGKILL);
  const int left = StatusOfChild("x");
  EXPECT_TRUE(WIFEXITED(left) && WEXITSTATUS(left) == 1);
  const int stopped = StatusOfChild("s");
  EXPECT_TRUE(WIFSTOPPED(stopped) && WSTOPSIG(stopped) == SIGSTOP);
  EXPECT_EQ(StatusOfChild("h", 2), 0);
  EXPECT_EQ(StatusOfChild("h", 3), SIGKILL);
}

TEST_F(FailpointsTest, DelaysAndWaits) {
  Write("d delay=30\nw wait=" + dir_ + "/go\n");
  const auto failpoints = Load();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(failpoints->Hit("d").ok());
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(30));
  std::atomic<bool> done = false;
  std::thread waiting([&] {
    failpoints->Hit("w").IgnoreError();
    done = true;
  });
  while (!std::filesystem::exists(path() + ".fired/2")) std::this_thread::yield();
  // While one thread waits, others come by.
  EXPECT_TRUE(failpoints->Hit("w").ok());
  EXPECT_FALSE(done);
  std::ofstream(dir_ + "/go") << "";
  waiting.join();
}

TEST_F(FailpointsTest, SaysWhichLineIsWrong) {
  for (const std::string bad : {"a", "a explode", "a kill=9", "a delay", "a delay=soon", "a delay=0", "a wait",
                                "a kill rank=x", "a kill rank=-1", "a kill hit=0", "a kill hit", "a kill again"}) {
    Write("ok error\n" + bad + "\n");
    const auto failpoints = Failpoints::Load(path(), 0);
    EXPECT_EQ(failpoints.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(failpoints.status().message()), testing::HasSubstr(path() + ":2: ")) << bad;
  }
}

TEST_F(FailpointsTest, IsRefusedWhereNothingCouldBeNoted) {
  Write("a error\n");
  std::ofstream(path() + ".fired") << "in the way";
  EXPECT_EQ(Failpoints::Load(path(), 0).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace lockstep
