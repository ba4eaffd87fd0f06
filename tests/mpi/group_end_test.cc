// SPDX-License-Identifier: Apache-2.0
// Real MPI groups that are killed: nothing of them stays, in memory, in /dev/shm or in /tmp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/server/group_fixture.h"

namespace lockstep::launch {
namespace {

// The files that a process has mapped or open.
std::set<std::string> FilesOf(pid_t pid) {
  std::set<std::string> files;
  const std::string proc = "/proc/" + std::to_string(pid);
  std::ifstream maps(proc + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (const size_t path = line.find('/'); path != std::string::npos) files.insert(line.substr(path));
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd", ignored)) {
    files.insert(std::filesystem::read_symlink(entry, ignored).string());
  }
  return files;
}

// True: the shim may not make a pid namespace, as for most users.
class GroupEndTest : public GroupTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    GroupTest::SetUp();
    // As in service: in memory, beside what must not be touched.
    std::string pattern = "/dev/shm/lockstep-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    shm_ = pattern;
  }
  void TearDown() override {
    GroupTest::TearDown();
    std::filesystem::remove_all(shm_);
  }
  std::string Shim() override {
    if (!GetParam() || geteuid() != 0) return GroupTest::Shim();
    return WriteProgram("shim", "exec setpriv --bounding-set=-all --inh-caps=-all " + GroupTest::Shim() + " \"$@\"\n");
  }
  MpirunOptions Options() override {
    return {
        .shim = Shim(), .worker = std::string(std::getenv("LOCKSTEP_BIN_DIR")) + "/waiting_rank", .scratch_root = shm_};
  }
  // A group of two whose ranks are ready to be killed: their ids.
  std::vector<pid_t> Start() {
    NewLauncher();
    EXPECT_TRUE(launcher_->Launch(Request(), OnExit()).ok());
    return {Pid("ready.0"), Pid("ready.1")};
  }
  void ExpectNoTrace(const std::vector<pid_t>& pids) {
    for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
    EXPECT_TRUE(ProcessesWith(GroupMark(run_dir())).empty());
    std::vector<std::string> left;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(shm_)) left.push_back(entry.path());
    EXPECT_THAT(left, testing::ElementsAre(shm_ + "/lockstep-j-snapshot"));
  }

  std::string shm_;
};

TEST_P(GroupEndTest, KeepsAllItsFilesInItsScratchFolder) {
  Start();
  const std::vector<pid_t> pids = ProcessesWith(GroupMark(run_dir()));
  EXPECT_EQ(pids.size(), 3u);  // mpirun and two ranks
  for (const pid_t pid : pids) {
    for (const std::string& file : FilesOf(pid)) {
      const bool shared = file.starts_with("/dev/shm/") || file.starts_with("/tmp/") || file.starts_with("/SYSV") ||
                          file.starts_with("/memfd:");
      EXPECT_TRUE(!shared || file.starts_with(shm_ + "/lockstep-j-1/") || file.starts_with(dir_)) << file;
    }
  }
  launcher_->Kill("j", 1);
  EXPECT_TRUE(AwaitExit().reported);
  ExpectNoTrace(pids);
}

TEST_P(GroupEndTest, LeavesNothingWhenTheShimIsKilled) {
  const std::vector<pid_t> ranks = Start();
  kill(ShimPid(), SIGKILL);
  EXPECT_FALSE(AwaitExit().reported);
  ExpectNoTrace(ranks);
}

TEST_P(GroupEndTest, LeavesNothingWhenARankIsKilled) {
  const std::vector<pid_t> ranks = Start();
  kill(ranks[1], SIGKILL);
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_NE(exit.exit_code, 0);
  ExpectNoTrace(ranks);
}

TEST_P(GroupEndTest, LeavesNothingWhenAllIsKilledAtOnce) {
  const std::vector<pid_t> ranks = Start();
  std::vector<pid_t> pids = ProcessesWith(GroupMark(run_dir()));
  pids.insert(pids.begin() + 1, ShimPid());
  for (const pid_t pid : pids) kill(pid, SIGKILL);
  AwaitExit();
  ExpectNoTrace(ranks);
}

INSTANTIATE_TEST_SUITE_P(Namespace, GroupEndTest, testing::Bool(),
                         [](const auto& param) { return std::string(param.param ? "Refused" : "Allowed"); });

}  // namespace
}  // namespace lockstep::launch
