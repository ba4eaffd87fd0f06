// SPDX-License-Identifier: Apache-2.0
// What a launcher does besides: groups of an earlier coordinator, left-overs, and what it hands on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

#include "tests/unit/server/group_fixture.h"

namespace lockstep::launch {
namespace {

using LauncherTest = GroupTest;

TEST_F(LauncherTest, ALaterCoordinatorAdoptsTheGroup) {
  Launch(WritePid("a") + "exec sleep 1000\n");
  const pid_t command = Pid("a");
  Adopt();  // The earlier launcher is gone; the shim goes on.
  EXPECT_NE(StartTimeOf(command), 0);
  launcher_->Kill("j", 1);
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_TRUE(exit.killed);
  EXPECT_EQ(StartTimeOf(command), 0);
  ExpectNothingLeft();
}

TEST_F(LauncherTest, AnAdoptedGroupThatEndsByItselfIsReported) {
  Launch(WritePid("a") + "until [ -e $LOCKSTEP_RUN_DIR/go ]; do :; done\necho done; exit 4\n");
  Pid("a");
  Adopt();
  std::ofstream(run_dir() + "/go") << "";
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_EQ(exit.exit_code, 4);
  EXPECT_EQ(exit.last_output, "done");
}

TEST_F(LauncherTest, AGroupThatEndedMeanwhileIsReported) {
  Launch(WritePid("a") + "until [ -e $LOCKSTEP_RUN_DIR/go ]; do :; done\nexit 6\n");
  Pid("a");
  launcher_.reset();
  std::ofstream(run_dir() + "/go") << "";
  ASSERT_TRUE(Eventually([&] { return ReadGroupExit(run_dir()).ok(); }));
  Adopt();
  const core::GroupExit exit = AwaitExit();
  EXPECT_TRUE(exit.reported);
  EXPECT_EQ(exit.exit_code, 6);
}

TEST_F(LauncherTest, AdoptingEndsWhatAKilledShimLeft) {
  Launch("setsid sh -c '" + WritePid("a") + "exec sleep 1000' &\n" + WritePid("b") + "exec sleep 1000\n");
  const pid_t disowned = Pid("a");
  Pid("b");
  const pid_t shim = ShimPid();
  launcher_.reset();
  kill(shim, SIGKILL);
  Adopt();
  EXPECT_FALSE(AwaitExit().reported);
  EXPECT_EQ(StartTimeOf(disowned), 0);
  ExpectNothingLeft();
}

TEST_F(LauncherTest, NeitherAdoptsNorKillsAProcessThatOnlyHasTheShimsId) {
  const pid_t other = fork();
  if (other == 0) {
    pause();
    _exit(0);
  }
  const int64_t start = StartTimeOf(other);
  int round = 0;
  for (const ShimIdentity& stale : {ShimIdentity{other, start - 1, BootId(), 1, scratch_dir()},
                                    ShimIdentity{other, start, "another-boot", 1, scratch_dir()}}) {
    SCOPED_TRACE(round++);
    std::filesystem::remove(run_dir() + "/shim.json");
    std::filesystem::create_directories(scratch_dir());
    ASSERT_TRUE(WriteShimIdentity(run_dir(), stale).ok());
    WriteProgram("mpirun", "exit 0\n");
    Adopt();
    EXPECT_FALSE(AwaitExit().reported);
    launcher_->Kill("j", 1);
    ExpectNothingLeft();
  }
  launcher_.reset();
  EXPECT_EQ(StartTimeOf(other), start);
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
}

TEST_F(LauncherTest, AShimThatComesTooLateStartsNothing) {
  // The coordinator died after starting the shim; its successor came before the shim wrote its name.
  WriteProgram("mpirun", "touch " + dir_ + "/ran\n");
  Adopt();
  EXPECT_FALSE(AwaitExit().reported);
  ASSERT_TRUE(launcher_->Launch(Request(), OnExit()).ok());
  EXPECT_FALSE(AwaitExit().reported);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/ran"));
  EXPECT_FALSE(std::filesystem::exists(scratch_dir()));
}

TEST_F(LauncherTest, AGroupIsLaunchedOnceInARunFolder) {
  Launch(WritePid("a") + "exec sleep 1000\n");
  const pid_t command = Pid("a");
  const pid_t shim = ShimPid();
  ASSERT_EQ(WriteShimIdentity(run_dir(), {}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ShimPid(), shim);
  EXPECT_NE(StartTimeOf(command), 0);
}

TEST_F(LauncherTest, TheGroupInheritsNoDescriptors) {
  const int leaked = open("/dev/null", O_RDONLY);  // Without close-on-exec.
  ASSERT_GE(leaked, 0);
  Launch(WritePid("a") + "exec sleep 1000\n");
  Pid("a");
  close(leaked);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(ShimPid()) + "/fd")) {
    std::error_code ignored;
    const std::string target = std::filesystem::read_symlink(entry, ignored).string();
    const bool own = target == "/dev/null" ? std::stoi(entry.path().filename()) <= 2
                                           : target.starts_with("pipe:") || target == run_dir() + "/output.log";
    EXPECT_TRUE(own) << entry.path() << " " << target;
  }
}

TEST_F(LauncherTest, SnapshotsOutliveTheGroupAndTheCoordinator) {
  Launch("echo weights > " + dir_ + "/lockstep-j-snapshot/1\n");
  AwaitExit();
  Adopt();
  AwaitExit();
  EXPECT_TRUE(std::filesystem::exists(launcher_->SnapshotPath("j", 1)));
  EXPECT_EQ(std::filesystem::status(dir_ + "/lockstep-j-snapshot").permissions(), std::filesystem::perms::owner_all);
}

TEST_F(LauncherTest, ALaunchKeepsOnlyTheSnapshotItStartsFrom) {
  for (const char* generation : {"3", "4"}) {
    std::filesystem::create_directories(dir_ + "/lockstep-j-snapshot");
    std::ofstream(dir_ + "/lockstep-j-snapshot/" + generation) << "weights";
  }
  std::filesystem::permissions(dir_ + "/lockstep-j-snapshot", std::filesystem::perms::owner_all);
  WriteProgram("mpirun", "exit 0\n");
  NewLauncher();
  LaunchRequest request = Request();
  request.keep_snapshot = 4;
  ASSERT_TRUE(launcher_->Launch(request, OnExit()).ok());
  AwaitExit();
  EXPECT_FALSE(std::filesystem::exists(launcher_->SnapshotPath("j", 3)));
  EXPECT_TRUE(std::filesystem::exists(launcher_->SnapshotPath("j", 4)));
  launcher_->DropSnapshots("j", 0);
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-j-snapshot"));
}

TEST_F(LauncherTest, TheJanitorRemovesWhatItIsToldAndNothingElse) {
  WriteProgram("mpirun", "exit 0\n");
  NewLauncher();
  for (const char* name : {"lockstep-a-b-1", "lockstep-a-b-2", "lockstep-a-b-snapshot", "lockstep-c-1", "lockstep-d",
                           "lockstep-", "lockstep-e-x", "other-a-1"}) {
    std::filesystem::create_directories(dir_ + "/" + name + "/inside");
  }
  std::set<std::pair<std::string, int64_t>> asked;
  launcher_->Sweep([&](const std::string& job_id, int64_t generation) {
    asked.emplace(job_id, generation);
    return job_id == "a-b" && generation != 2;
  });
  using Pair = std::pair<std::string, int64_t>;
  EXPECT_THAT(asked, testing::ElementsAre(Pair("a-b", 0), Pair("a-b", 1), Pair("a-b", 2), Pair("c", 1)));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-a-b-1"));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/lockstep-a-b-snapshot"));
  for (const char* name : {"lockstep-a-b-2", "lockstep-c-1", "lockstep-d", "lockstep-", "lockstep-e-x", "other-a-1"}) {
    EXPECT_TRUE(std::filesystem::exists(dir_ + "/" + name + "/inside")) << name;
  }
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

TEST(Command, NamesTheFailpointsOnlyWhereThereAreSome) {
  const LaunchRequest request{"j", 1, {}, "/run", "unix:/none"};
  EXPECT_THAT(MpirunCommand({.worker = "/w"}, request, "/s"),
              testing::Not(testing::Contains(testing::StartsWith("--failpoints"))));
  EXPECT_EQ(MpirunCommand({.worker = "/w", .failpoints_file = "/f"}, request, "/s").back(), "--failpoints=/f");
}

TEST(Command, SaysWhatTheJobWantsToRunOn) {
  LaunchRequest request{"j", 1, {}, "/run", "unix:/none"};
  EXPECT_THAT(MpirunCommand({.worker = "/w"}, request, "/s"), testing::Contains("--device=auto"));
  request.device = "cuda";
  EXPECT_THAT(MpirunCommand({.worker = "/w"}, request, "/s"),
              testing::AllOf(testing::Contains("--device=cuda"), testing::Not(testing::Contains("--share-devices"))));
  request.share_devices = true;
  EXPECT_THAT(MpirunCommand({.worker = "/w"}, request, "/s"), testing::Contains("--share-devices"));
}

TEST(Create, SaysWhatIsMissing) {
  const auto launcher = MpirunLauncher::Create({.mpirun = "/none/mpirun", .shim = "/bin/true", .worker = "/bin/true"});
  EXPECT_THAT(std::string(launcher.status().message()), testing::HasSubstr("--mpirun="));
  const auto homeless = MpirunLauncher::Create(
      {.mpirun = "/bin/true", .shim = "/bin/true", .worker = "/bin/true", .scratch_root = "/none"});
  EXPECT_THAT(std::string(homeless.status().message()),
              testing::AllOf(testing::HasSubstr("/none: No such file"), testing::HasSubstr("--scratch-root=")));
}

TEST(ScratchRoot, IsTheFirstThatIsLargeEnough) {
  const std::string here = testing::TempDir();
  EXPECT_EQ(*ChooseScratchRoot({"/none", here}, 1), here);
  EXPECT_EQ(*ChooseScratchRoot({here, "/none"}, 1), here);
  // The last resort may be small; where it cannot be used either, every reason is told.
  EXPECT_EQ(*ChooseScratchRoot({"/none", here}, UINT64_MAX), here);
  const auto none = ChooseScratchRoot({here, "/none"}, UINT64_MAX);
  EXPECT_THAT(std::string(none.status().message()),
              testing::AllOf(testing::HasSubstr(here + ": has less than"), testing::HasSubstr("/none: No such file")));
}

}  // namespace
}  // namespace lockstep::launch
