// SPDX-License-Identifier: Apache-2.0
// How a group ends, whoever dies, with a pid namespace around it and where none is allowed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/server/group_fixture.h"

namespace lockstep::launch {
namespace {

// True: the shim may not make a pid namespace, as for most users.
class ShimTest : public GroupTest, public testing::WithParamInterface<bool> {
 protected:
  std::string Shim() override {
    if (!GetParam() || geteuid() != 0) return GroupTest::Shim();
    return WriteProgram("shim", "exec setpriv --bounding-set=-all --inh-caps=-all " + GroupTest::Shim() + " \"$@\"\n");
  }
  // Two children, one of them in a session of its own; they write a, b and c. All ignore SIGTERM.
  static std::string Family() {
    const std::string sleep = "exec sleep 1000";
    return "trap '' TERM\n" + WritePid("a") + "sh -c '" + WritePid("b") + sleep + "' &\nsetsid sh -c '" +
           WritePid("c") + sleep + "' &\nwhile :; do wait; done\n";
  }
  std::vector<pid_t> FamilyPids() { return {Pid("a"), Pid("b"), Pid("c")}; }
};

TEST_P(ShimTest, RunsTheCommandInItsOwnNamespaceWhereThatIsAllowed) {
  Launch("echo $$; exit 0\n");
  const bool first = AwaitExit().last_output == "1";
  EXPECT_EQ(first, !GetParam() && geteuid() == 0);
}

TEST_P(ShimTest, ReportsTheExitStatusAndTheLastWords) {
  Launch("touch $TMPDIR/left; echo 'something is wrong'; exit 3\n");
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_FALSE(exit.killed);
  EXPECT_EQ(exit.exit_code, 3);
  EXPECT_EQ(exit.last_output, "something is wrong");
  ExpectNothingLeft();
}

TEST_P(ShimTest, KillsTheWholeTreeAtOnceAlsoWhatIgnoresSigtermAndWasDisowned) {
  Launch(Family());
  const auto pids = FamilyPids();
  const auto began = std::chrono::steady_clock::now();
  launcher_->Kill("j", 1);
  // Reported: by the shim, without the launcher's help.
  EXPECT_TRUE(AwaitExit().killed);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));  // The grace of SIGTERM is 4 s.
  for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
  ExpectNothingLeft();
}

TEST_P(ShimTest, LeavesNothingWhenTheGroupEndsBeforeItsChildren) {
  Launch("sh -c '" + WritePid("a") + "exec sleep 1000' &\nuntil [ -e $LOCKSTEP_RUN_DIR/a ]; do :; done; exit 0\n");
  const core::GroupExit exit = AwaitExit();
  EXPECT_EQ(exit.exit_code, 0);
  EXPECT_FALSE(exit.killed);
  EXPECT_EQ(StartTimeOf(Pid("a")), 0);
  ExpectNothingLeft();
}

TEST_P(ShimTest, LeavesNothingWhenTheShimIsKilled) {
  Launch(Family());
  const auto pids = FamilyPids();
  kill(ShimPid(), SIGKILL);
  EXPECT_FALSE(AwaitExit().reported);
  // Not soon: by the time that the end is told.
  for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
  ExpectNothingLeft();
}

TEST_P(ShimTest, LeavesNothingWhenMpirunIsKilled) {
  Launch(Family());
  const auto pids = FamilyPids();
  kill(pids[0], SIGKILL);
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_EQ(exit.signal, SIGKILL);
  for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
  ExpectNothingLeft();
}

TEST_P(ShimTest, LeavesNothingWhenAllIsKilledAtOnce) {
  for (const bool shim_first : {true, false}) {
    std::filesystem::remove_all(run_dir());
    std::filesystem::create_directories(run_dir());
    Launch(Family());
    std::vector<pid_t> pids = FamilyPids();
    pids.insert(shim_first ? pids.begin() : pids.end(), ShimPid());
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    AwaitExit();
    for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
    ExpectNothingLeft();
  }
}

TEST_P(ShimTest, AStoppedShimDoesNotHoldUpTheEnd) {
  Launch(Family());
  const auto pids = FamilyPids();
  kill(ShimPid(), SIGSTOP);
  launcher_->Kill("j", 1);
  EXPECT_FALSE(AwaitExit().reported);
  for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
  ExpectNothingLeft();
}

TEST_P(ShimTest, SigtermLetsWorkersEndByThemselves) {
  // As mpirun, the command ends with its worker's exit code. It must not get the signal itself.
  Launch("trap 'exit 66' TERM\nsh -c 'trap \"exit 7\" TERM; " + WritePid("a") +
         "while :; do sleep 1000 & wait; done' &\nwait $!\nexit $?\n");
  Pid("a");
  kill(ShimPid(), SIGTERM);
  const core::GroupExit exit = AwaitExit();
  EXPECT_EQ(exit.exit_code, 7);
  EXPECT_FALSE(exit.killed);
  ExpectNothingLeft();
}

TEST_P(ShimTest, SigtermReachesWorkersThatStartAfterIt) {
  // The first worker ends on the signal; only then the second starts.
  Launch("sh -c 'trap \"exit 0\" TERM; " + WritePid("a") + "while :; do sleep 1000 & wait; done' &\nwait $!\n" +
         "(exec sleep 1000)\nexit 9\n");
  Pid("a");
  kill(ShimPid(), SIGTERM);
  EXPECT_EQ(AwaitExit().exit_code, 9);
}

TEST_P(ShimTest, AWorkerThatDoesNotEndInTimeIsKilled) {
  std::filesystem::create_directories(run_dir());
  const std::string shim = Shim();
  WriteProgram("short", "exec " + shim + " --stop-grace-ms=100 \"$@\"\n");
  WriteProgram("mpirun", Family());
  auto launcher = MpirunLauncher::Create(
      {.mpirun = dir_ + "/mpirun", .shim = dir_ + "/short", .worker = "/bin/true", .scratch_root = dir_});
  ASSERT_TRUE(launcher.ok());
  launcher_ = std::move(*launcher);
  ASSERT_TRUE(launcher_->Launch(Request(), OnExit()).ok());
  const auto pids = FamilyPids();
  kill(ShimPid(), SIGTERM);
  EXPECT_TRUE(AwaitExit().killed);
  for (const pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
  ExpectNothingLeft();
}

TEST_P(ShimTest, SaysWhyItCouldNotMakeItsFolder) {
  std::filesystem::create_directories(scratch_dir());  // Another's, for all it knows.
  Launch("exit 0\n");
  const core::GroupExit exit = AwaitExit();
  EXPECT_EQ(exit.exit_code, 126);
  EXPECT_THAT(exit.last_output, testing::HasSubstr(scratch_dir() + ": cannot create: File exists"));
}

INSTANTIATE_TEST_SUITE_P(Namespace, ShimTest, testing::Bool(),
                         [](const auto& param) { return std::string(param.param ? "Refused" : "Allowed"); });

using ShimOnFullDiskTest = GroupTest;

TEST_F(ShimOnFullDiskTest, StillReportsHowTheGroupEnded) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may mount a small file system";
  ASSERT_EQ(mount("lockstep", run_dir().c_str(), "tmpfs", 0, "size=64k"), 0) << strerror(errno);
  Launch(WritePid("a") + "cat /dev/zero > $LOCKSTEP_RUN_DIR/fill 2> /dev/null\nexit 5\n");
  const core::GroupExit exit = AwaitExit();
  std::error_code ignored;
  EXPECT_EQ(std::filesystem::space(run_dir(), ignored).available, 0u);
  umount2(run_dir().c_str(), MNT_DETACH);
  EXPECT_TRUE(exit.reported);
  EXPECT_EQ(exit.exit_code, 5);
}

}  // namespace
}  // namespace lockstep::launch
