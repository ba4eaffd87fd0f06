// SPDX-License-Identifier: Apache-2.0
#include "worker/device/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Environment Of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) {
    const auto it = values.find(name);
    return it == values.end() ? nullptr : it->second.c_str();
  };
}

std::pair<int, int> Place(std::map<std::string, std::string> values) {
  const auto place = LocalPlaceOf(Of(std::move(values)));
  return place.ok() ? std::pair(place->rank, place->size) : std::pair(-1, -1);
}

TEST(LocalPlaceTest, IsWhatTheLauncherSays) {
  EXPECT_EQ(Place({}), std::pair(0, 1));
  EXPECT_EQ(Place({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "8"}}), std::pair(3, 8));
  EXPECT_EQ(Place({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}}), std::pair(3, 4));
  // mpirun under Slurm: what it says counts.
  EXPECT_EQ(Place({{"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}, {"SLURM_LOCALID", "0"}}),
            std::pair(1, 2));
  EXPECT_EQ(Place({{"SLURM_LOCALID", "1"}, {"SLURM_TASKS_PER_NODE", "8(x2),4"}, {"SLURM_NODEID", "1"}}),
            std::pair(1, 8));
  EXPECT_EQ(Place({{"SLURM_LOCALID", "1"}, {"SLURM_TASKS_PER_NODE", "8(x2),4"}, {"SLURM_NODEID", "2"}}),
            std::pair(1, 4));
  EXPECT_EQ(Place({{"SLURM_LOCALID", "2"}, {"SLURM_TASKS_PER_NODE", "nonsense"}}), std::pair(2, 3));
  for (const char* wrong : {"x", "-1", "1.5"}) EXPECT_EQ(Place({{"SLURM_LOCALID", wrong}}), std::pair(-1, -1));
  EXPECT_EQ(Place({{"OMPI_COMM_WORLD_LOCAL_RANK", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), std::pair(-1, -1));
}

TEST(VisibleGpusTest, TakesIndicesAndUuidsAsCudaDoes) {
  const std::vector<std::string> uuids{"GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"};
  EXPECT_THAT(VisibleGpus(nullptr, uuids), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(VisibleGpus("", uuids), IsEmpty());
  EXPECT_THAT(VisibleGpus("2,0", uuids), ElementsAre(2, 0));
  EXPECT_THAT(VisibleGpus(" 3 , GPU-bb", uuids), ElementsAre(3, 2));
  EXPECT_THAT(VisibleGpus("GPU-aa22,1", uuids), ElementsAre(1));
  // Ambiguous, out of range, or none: what comes before counts.
  EXPECT_THAT(VisibleGpus("1,GPU-aa,0", uuids), ElementsAre(1));
  EXPECT_THAT(VisibleGpus("0,4,1", uuids), ElementsAre(0));
  EXPECT_THAT(VisibleGpus("0,-1,1", uuids), ElementsAre(0));
  EXPECT_THAT(VisibleGpus("-1", uuids), IsEmpty());
}

TEST(ChooseGpuTest, EachRankTakesItsOwn) {
  const std::vector<std::string> four{"a", "b", "c", "d"}, one{"a"}, none;
  EXPECT_EQ(*ChooseGpu({2, 4}, four, false), 2);
  EXPECT_EQ(*ChooseGpu({0, 1}, four, false), 0);
  // Picked for it.
  EXPECT_EQ(*ChooseGpu({3, 8}, one, false), 0);
  EXPECT_EQ(*ChooseGpu({6, 8}, four, true), 2);
  const absl::Status refused = ChooseGpu({0, 8}, four, false).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("8 ranks run on this host, but only 4 GPUs"));
  EXPECT_THAT(refused.message(), HasSubstr("resources.share_devices"));
  EXPECT_EQ(ChooseGpu({0, 1}, none, true).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(CheckGpusTest, TwoRanksMayNotTakeOneUnlessTheyShare) {
  std::vector<TakenGpu> taken{{0, "h", "a"}, {1, "h", "b"}, {2, "i", "a"}};
  EXPECT_TRUE(CheckGpus(taken, false).ok());
  EXPECT_FALSE(AnyShared(taken));
  taken.push_back({3, "h", "b"});
  const absl::Status refused = CheckGpus(taken, false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("ranks 1 and 3 on host h would share the GPU b"));
  EXPECT_TRUE(CheckGpus(taken, true).ok());
  EXPECT_TRUE(AnyShared(taken));
}

TEST(CoresTest, AreReadFromSysfs) {
  EXPECT_THAT(*ParseCpuList("0-3,8,10-11\n"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(*ParseCpuList(""), IsEmpty());
  for (const char* wrong : {"a", "3-1", "-1", "0-99999999", "1-"}) EXPECT_FALSE(ParseCpuList(wrong).ok()) << wrong;

  std::string root = ::testing::TempDir() + "lockstep-sysfs-XXXXXX";
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text << "\n";
  };
  write("/bus/pci/devices/0000:8a:00.0/numa_node", "1");
  write("/bus/pci/devices/0000:17:00.0/numa_node", "-1");
  write("/devices/system/node/node1/cpulist", "4-5,12");
  EXPECT_THAT(CoresBeside("0000:8A:00.0", root), ElementsAre(4, 5, 12));
  EXPECT_THAT(CoresBeside("00000000:8A:00.0", root), ElementsAre(4, 5, 12));
  EXPECT_THAT(CoresBeside("0000:17:00.0", root), IsEmpty());
  EXPECT_THAT(CoresBeside("0000:99:00.0", root), IsEmpty());
  std::filesystem::remove_all(root);
}

TEST(BindThreadTest, StaysInsideOfWhatIsAllowed) {
  // On a thread of its own, so that nothing else in the program is bound.
  std::thread([] {
    cpu_set_t before, after;
    ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    int some = 0;
    while (!CPU_ISSET(some, &before)) ++some;
    EXPECT_TRUE(BindThread({}).ok());
    EXPECT_EQ(BindThread(std::vector<int>{CPU_SETSIZE - 1}).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(BindThread(std::vector<int>{some, CPU_SETSIZE + 5}).ok());
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_EQ(CPU_COUNT(&after), 1);
    EXPECT_TRUE(CPU_ISSET(some, &after));
  }).join();
}

}  // namespace
}  // namespace lockstep
