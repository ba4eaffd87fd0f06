// SPDX-License-Identifier: Apache-2.0
#include "worker/train/choose_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/worker/fake_gpus.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ChooseDeviceTest, AutoTakesAGpuWhereThereIsOneElseTheCpuAndSaysWhy) {
  const ChosenDevice gpu = ChooseDevice({}, FakeGpus(1)).value();
  EXPECT_THAT(gpu.device->Description(), HasSubstr("10 threads"));
  EXPECT_EQ(gpu.gpu.value().uuid, "GPU-0");
  EXPECT_EQ(gpu.why_cpu, "");
  const ChosenDevice cpu = ChooseDevice({.threads = 2}, FakeGpus(0)).value();
  EXPECT_THAT(cpu.device->Description(), HasSubstr("2 threads"));
  EXPECT_FALSE(cpu.gpu.has_value());
  EXPECT_EQ(cpu.why_cpu, "the machine is a toaster");
}

TEST(ChooseDeviceTest, AGpuThatDoesNotWorkIsNone) {
  GpuSource broken = FakeGpus(1);
  broken.make = [](int) -> absl::StatusOr<std::unique_ptr<Device>> {
    return absl::UnavailableError("GPU 0 is on fire");
  };
  EXPECT_EQ(ChooseDevice({}, broken).value().why_cpu, "GPU 0 is on fire");
  EXPECT_THAT(std::string(ChooseDevice({.wish = DeviceWish::kCuda}, broken).status().message()),
              HasSubstr("GPU 0 is on fire"));
}

TEST(ChooseDeviceTest, CudaWithoutAGpuFailsAndSaysWhy) {
  const absl::Status status = ChooseDevice({.wish = DeviceWish::kCuda}, FakeGpus(0)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("DEVICE_CUDA"), HasSubstr("the machine is a toaster"),
                                                   HasSubstr("lockstep devices"), HasSubstr("DEVICE_AUTO")));
}

TEST(ChooseDeviceTest, TheCpuDoesNotAskForGpus) {
  const GpuSource nobody_asks{[]() -> GpuList {
                                ADD_FAILURE();
                                return {};
                              },
                              nullptr};
  const ChosenDevice cpu = ChooseDevice({.wish = DeviceWish::kCpu}, nobody_asks).value();
  EXPECT_FALSE(cpu.gpu.has_value());
  EXPECT_EQ(cpu.why_cpu, "");
}

TEST(ChooseDeviceTest, EachRankOfAHostTakesItsOwnGpu) {
  for (int rank = 0; rank < 4; ++rank) {
    const ChosenDevice chosen = ChooseDevice({.wish = DeviceWish::kCuda, .place = {rank, 4}}, FakeGpus(4)).value();
    EXPECT_THAT(chosen.device->Description(), HasSubstr(absl::StrCat(10 + rank, " threads")));
    EXPECT_EQ(chosen.gpu.value().uuid, absl::StrCat("GPU-", rank));
  }
}

TEST(ChooseDeviceTest, RanksThatOutnumberTheGpusShareThemOnlyWhereTheyMay) {
  const DeviceChoice fifth{.wish = DeviceWish::kCuda, .place = {4, 6}};
  const absl::Status refused = ChooseDevice(fifth, FakeGpus(4)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr("6 ranks"), HasSubstr("4 GPUs"),
                                                    HasSubstr("resources.share_devices"), HasSubstr("DEVICE_AUTO")));
  // Also the first: all of them hear the same.
  const ChosenDevice cpu = ChooseDevice({.place = {0, 6}, .threads = 3}, FakeGpus(4)).value();
  EXPECT_THAT(cpu.device->Description(), HasSubstr("3 threads"));
  EXPECT_THAT(cpu.why_cpu, HasSubstr("resources.share_devices"));
  EXPECT_EQ(
      ChooseDevice({.wish = DeviceWish::kCuda, .place = {4, 6}, .share = true}, FakeGpus(4)).value().gpu.value().index,
      0);
}

// What each rank of a group returns.
template <typename F>
auto OfEachRank(int ranks, const F& f) {
  auto group = MakeThreadGroup(ranks);
  std::vector<decltype(f(*group[0], 0))> heard(static_cast<size_t>(ranks), absl::UnknownError(""));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] { heard[static_cast<size_t>(rank)] = f(*group[rank], rank); });
  }
  for (std::thread& thread : threads) thread.join();
  return heard;
}

TEST(AgreementTest, AllSayHearsEveryRank) {
  for (const int dissenter : {-1, 0, 2}) {
    const auto heard = OfEachRank(3, [&](Communicator& group, int rank) { return AllSay(group, rank != dissenter); });
    for (const absl::StatusOr<bool>& all : heard) EXPECT_EQ(all.value(), dissenter < 0);
  }
}

TEST(AgreementTest, EveryRankHearsWhatTheOthersTook) {
  const std::string too_long(300, 'h');
  const auto heard = OfEachRank(3, [&](Communicator& group, int rank) {
    return ExchangeTaken(group, rank == 2 ? too_long : "host", rank == 1 ? "" : absl::StrCat("GPU-", rank));
  });
  for (const auto& taken : heard) {
    ASSERT_EQ(taken->size(), 3u);
    for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(taken->at(rank).rank, rank);
    EXPECT_EQ(taken->at(0).host, "host");
    EXPECT_EQ(taken->at(0).uuid, "GPU-0");
    EXPECT_EQ(taken->at(1).uuid, "");
    EXPECT_EQ(taken->at(2).host, std::string(kMaxName, 'h'));
  }
}

// What ranks that took these come to, the same for each.
absl::StatusOr<Agreement> Agree(DeviceWish wish, bool share, const std::vector<std::string>& uuids) {
  const auto heard = OfEachRank(static_cast<int>(uuids.size()), [&](Communicator& group, int rank) {
    return AgreeOnDevices(group, wish, share, "host", uuids[static_cast<size_t>(rank)]);
  });
  for (const auto& agreed : heard) {
    EXPECT_EQ(agreed.status(), heard[0].status());
    if (agreed.ok()) {
      EXPECT_EQ(agreed->why_cpu, heard[0]->why_cpu);
      EXPECT_EQ(agreed->shared, heard[0]->shared);
      EXPECT_EQ(agreed->unused_gpus, heard[0]->unused_gpus);
    }
  }
  return heard[0];
}

TEST(AgreementTest, RanksWithGpusOfTheirOwnGoOn) {
  for (const DeviceWish wish : {DeviceWish::kAuto, DeviceWish::kCuda}) {
    const Agreement agreed = Agree(wish, false, {"a", "b", "c"}).value();
    EXPECT_EQ(agreed.why_cpu, "");
    EXPECT_FALSE(agreed.shared);
    EXPECT_EQ(agreed.unused_gpus, 0);
  }
}

TEST(AgreementTest, WhereOneHasNoGpuAllTrainOnTheCpu) {
  EXPECT_THAT(Agree(DeviceWish::kAuto, false, {"a", "", "c"})->why_cpu,
              AllOf(HasSubstr("rank 1"), HasSubstr("no GPU")));
  EXPECT_EQ(Agree(DeviceWish::kAuto, false, {"a", "", "c"})->unused_gpus, 2);
  EXPECT_EQ(Agree(DeviceWish::kAuto, false, {"", ""})->unused_gpus, 0);
  EXPECT_EQ(Agree(DeviceWish::kAuto, false, {"a", "b", "a"})->unused_gpus, 3);
}

TEST(AgreementTest, TwoOnOneGpuAreRefusedUnlessTheyMayShareIt) {
  const absl::Status refused = Agree(DeviceWish::kCuda, false, {"a", "b", "a"}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("ranks 0 and 2 on host host"));
  EXPECT_THAT(Agree(DeviceWish::kAuto, false, {"a", "b", "a"})->why_cpu, HasSubstr("ranks 0 and 2"));
  for (const DeviceWish wish : {DeviceWish::kAuto, DeviceWish::kCuda}) {
    const Agreement shared = Agree(wish, true, {"a", "b", "a"}).value();
    EXPECT_EQ(shared.why_cpu, "");
    EXPECT_TRUE(shared.shared);
    EXPECT_FALSE(Agree(wish, true, {"a", "b"})->shared);
  }
}

}  // namespace
}  // namespace lockstep
