// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "server/launch/mpirun_launcher.h"
#include "server/launch/process.h"
#include "server/launch/run_dir.h"

namespace lockstep::launch {
namespace {

bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// The "mpirun" of these tests is a shell script, which gets and ignores mpirun's arguments.
class ShimTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-shim-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    std::filesystem::create_directories(dir_ + "/run");
  }
  void TearDown() override {
    launcher_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Launch(const std::string& script) {
    std::ofstream(dir_ + "/mpirun") << "#!/bin/sh\n" << script;
    std::filesystem::permissions(dir_ + "/mpirun", std::filesystem::perms::owner_all);
    auto launcher = MpirunLauncher::Create({.mpirun = dir_ + "/mpirun",
                                            .shim = std::string(std::getenv("LOCKSTEP_BIN_DIR")) + "/lockstep-shim",
                                            .worker = "/bin/true",
                                            .scratch_root = dir_});
    ASSERT_TRUE(launcher.ok()) << launcher.status();
    launcher_ = std::move(*launcher);
    ASSERT_TRUE(launcher_
                    ->Launch({"j", 1, {}, dir_ + "/run", "unix:/none"},
                             [this](const core::GroupExit& exit) { exit_.set_value(exit); })
                    .ok());
  }
  core::GroupExit AwaitExit() {
    auto future = exit_.get_future();
    if (future.wait_for(std::chrono::seconds(10)) != std::future_status::ready) {
      ADD_FAILURE() << "the group did not end";
      return {};
    }
    return future.get();
  }
  // The pid that the script wrote.
  pid_t Pid(const std::string& file) {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] { return static_cast<bool>(std::ifstream(dir_ + "/run/" + file) >> pid); })) << file;
    return pid;
  }

  std::string dir_;
  std::promise<core::GroupExit> exit_;
  std::unique_ptr<MpirunLauncher> launcher_;
};

TEST_F(ShimTest, ReportsTheExitStatusAndTheLastWords) {
  Launch("touch $TMPDIR/left; echo 'something is wrong'; exit 3\n");
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_EQ(exit.exit_code, 3);
  EXPECT_EQ(exit.last_output, "something is wrong");
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-j-1"));
}

TEST_F(ShimTest, KillsTheWholeTreeAlsoWhatIgnoresSigtermAndWasDisowned) {
  Launch("cd " + dir_ +
         "/run\ntrap '' TERM\n"
         "(trap '' TERM; setsid sleep 1000 & echo $! > a.tmp; mv a.tmp a; wait) &\n"
         "echo $! > b.tmp; mv b.tmp b; sleep 1000; sleep 1000\n");
  const pid_t disowned = Pid("a"), child = Pid("b");
  const auto began = std::chrono::steady_clock::now();
  launcher_->Kill("j", 1);
  AwaitExit();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
  EXPECT_EQ(StartTimeOf(disowned), 0);
  EXPECT_EQ(StartTimeOf(child), 0);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-j-1"));
}

TEST_F(ShimTest, LeavesNothingWhenTheGroupEndsBeforeItsChildren) {
  Launch("cd " + dir_ + "/run\nsleep 1000 &\necho $! > a.tmp; mv a.tmp a; exit 0\n");
  EXPECT_EQ(AwaitExit().exit_code, 0);
  EXPECT_EQ(StartTimeOf(Pid("a")), 0);
}

TEST_F(ShimTest, SaysSoWhenTheShimItselfIsKilled) {
  Launch("cd " + dir_ + "/run\necho $$ > a.tmp; mv a.tmp a; exec sleep 1000\n");
  const pid_t command = Pid("a");
  kill(ReadShimIdentity(dir_ + "/run")->pid, SIGKILL);
  EXPECT_FALSE(AwaitExit().reported);
  EXPECT_TRUE(Eventually([&] { return StartTimeOf(command) == 0; }));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-j-1"));
}

TEST_F(ShimTest, ALaterCoordinatorEndsTheGroup) {
  Launch("cd " + dir_ + "/run\necho $$ > a.tmp; mv a.tmp a; exec sleep 1000\n");
  const pid_t command = Pid("a");
  launcher_.reset();  // The coordinator is gone; the shim goes on.
  EXPECT_NE(StartTimeOf(command), 0);
  EXPECT_TRUE(KillStaleGroup(dir_ + "/run").ok());
  EXPECT_EQ(StartTimeOf(command), 0);
  EXPECT_TRUE(KillStaleGroup(dir_ + "/run").ok());
  EXPECT_TRUE(KillStaleGroup(dir_).ok());
}

TEST(Environment, IsAnAllowList) {
  setenv("LD_PRELOAD_LOOKALIKE", "x", 1);
  setenv("OMPI_MCA_evil", "x", 1);
  setenv("LOCKSTEP_SOMETHING", "x", 1);
  const auto environment = GroupEnvironment();
  EXPECT_THAT(environment, testing::Contains("LOCKSTEP_SOMETHING=x"));
  EXPECT_THAT(environment, testing::Not(testing::Contains("LD_PRELOAD_LOOKALIKE=x")));
  EXPECT_THAT(environment, testing::Not(testing::Contains("OMPI_MCA_evil=x")));
}

TEST(Create, SaysWhatIsMissing) {
  const auto launcher = MpirunLauncher::Create({.mpirun = "/none/mpirun", .shim = "/bin/true", .worker = "/bin/true"});
  EXPECT_THAT(std::string(launcher.status().message()), testing::HasSubstr("--mpirun="));
}

}  // namespace
}  // namespace lockstep::launch
