// SPDX-License-Identifier: Apache-2.0
// Worker groups of real processes: a launcher with the real shim, whose "mpirun" is a script.
#pragma once

#include <fcntl.h>
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
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "server/launch/mpirun_launcher.h"
#include "server/launch/process.h"
#include "server/launch/run_dir.h"

namespace lockstep::launch {

inline bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class GroupTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-shim-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    std::filesystem::create_directories(run_dir());
  }
  void TearDown() override {
    launcher_.reset();
    // A group that still runs ends with the test.
    if (const auto identity = ReadShimIdentity(run_dir()); identity.ok()) {
      if (const int shim = OpenShim(*identity); shim >= 0) {
        kill(identity->pid, SIGUSR1);
        EXPECT_TRUE(Eventually([&] { return IsGone(identity->pid); }));
        close(shim);
      }
    }
    for (const pid_t pid : ProcessesWith(GroupMark(run_dir()))) kill(pid, SIGKILL);
    std::filesystem::remove_all(dir_);
  }

  std::string run_dir() const { return dir_ + "/run"; }
  std::string scratch_dir() const { return dir_ + "/lockstep-j-1"; }

  // A shell command that writes the id of the process that runs it, as the whole machine knows it, to a file of the run
  // folder. What the shell calls $$ may be an id inside a pid namespace.
  static std::string WritePid(const std::string& file) {
    return "read pid rest < /proc/self/stat; echo $pid > $LOCKSTEP_RUN_DIR/" + file + ".tmp; mv $LOCKSTEP_RUN_DIR/" +
           file + ".tmp $LOCKSTEP_RUN_DIR/" + file + "\n";
  }
  // The pid that the script wrote.
  pid_t Pid(const std::string& file) {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] { return static_cast<bool>(std::ifstream(run_dir() + "/" + file) >> pid); })) << file;
    return pid;
  }
  std::string WriteProgram(const std::string& name, const std::string& script) {
    const std::string path = dir_ + "/" + name;
    std::ofstream(path) << "#!/bin/sh\n" << script;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }

  virtual std::string Shim() { return std::string(std::getenv("LOCKSTEP_BIN_DIR")) + "/lockstep-shim"; }
  virtual MpirunOptions Options() {
    return {.mpirun = dir_ + "/mpirun",
            .shim = Shim(),
            .worker = "/bin/true",
            .scratch_root = dir_,
            .shim_grace = std::chrono::milliseconds(300)};
  }
  // A coordinator's launcher; an earlier one ends and leaves its group.
  void NewLauncher() {
    launcher_.reset();
    auto launcher = MpirunLauncher::Create(Options());
    ASSERT_TRUE(launcher.ok()) << launcher.status();
    launcher_ = std::move(*launcher);
  }
  LaunchRequest Request() { return {"j", 1, {.workers = 2}, run_dir(), "unix:/none"}; }
  Launcher::OnExit OnExit() {
    exit_ = {};
    return [this](const core::GroupExit& exit) { exit_.set_value(exit); };
  }
  void Launch(const std::string& script) {
    WriteProgram("mpirun", script);
    NewLauncher();
    ASSERT_TRUE(launcher_->Launch(Request(), OnExit()).ok());
  }
  void Adopt() {
    NewLauncher();
    launcher_->Adopt(Request(), OnExit());
  }
  core::GroupExit AwaitExit() {
    auto future = exit_.get_future();
    if (future.wait_for(std::chrono::seconds(10)) != std::future_status::ready) {
      ADD_FAILURE() << "the group did not end";
      return {};
    }
    return future.get();
  }
  pid_t ShimPid() {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] {
      const auto identity = ReadShimIdentity(run_dir());
      if (identity.ok()) pid = identity->pid;
      return identity.ok();
    }));
    return pid;
  }
  // Nothing that the shim started runs, and its folder is gone.
  void ExpectNothingLeft() {
    EXPECT_TRUE(ProcessesWith(GroupMark(run_dir())).empty());
    EXPECT_FALSE(std::filesystem::exists(scratch_dir()));
  }

  std::string dir_;
  std::promise<core::GroupExit> exit_;
  std::unique_ptr<MpirunLauncher> launcher_;
};

}  // namespace lockstep::launch
