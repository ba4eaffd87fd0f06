// SPDX-License-Identifier: Apache-2.0
#include "worker/train/choose_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// `count` GPUs, whose devices are CPU devices of 10 + index threads, so that one can tell them apart.
GpuSource Gpus(int count) {
  return {[count] {
            GpuList list;
            for (int i = 0; i < count; ++i) list.gpus.push_back({.index = i, .name = "GPU"});
            if (count == 0) list.none_because = "the machine is a toaster";
            return list;
          },
          [](int index) -> absl::StatusOr<std::unique_ptr<Device>> { return MakeCpuDevice(10 + index); }};
}

TEST(ChooseDeviceTest, AutoTakesAGpuWhereThereIsOneElseTheCpuAndSaysWhy) {
  const ChosenDevice gpu = ChooseDevice(DeviceWish::kAuto, 0, 1, Gpus(1)).value();
  EXPECT_THAT(gpu.device->Description(), HasSubstr("10 threads"));
  EXPECT_EQ(gpu.why_cpu, "");
  const ChosenDevice cpu = ChooseDevice(DeviceWish::kAuto, 0, 2, Gpus(0)).value();
  EXPECT_THAT(cpu.device->Description(), HasSubstr("2 threads"));
  EXPECT_EQ(cpu.why_cpu, "the machine is a toaster");
}

TEST(ChooseDeviceTest, AGpuThatDoesNotWorkIsNone) {
  GpuSource broken = Gpus(1);
  broken.make = [](int) -> absl::StatusOr<std::unique_ptr<Device>> {
    return absl::UnavailableError("GPU 0 is on fire");
  };
  EXPECT_EQ(ChooseDevice(DeviceWish::kAuto, 0, 1, broken).value().why_cpu, "GPU 0 is on fire");
  EXPECT_THAT(std::string(ChooseDevice(DeviceWish::kCuda, 0, 1, broken).status().message()),
              HasSubstr("GPU 0 is on fire"));
}

TEST(ChooseDeviceTest, CudaWithoutAGpuFailsAndSaysWhy) {
  const absl::Status status = ChooseDevice(DeviceWish::kCuda, 0, 1, Gpus(0)).status();
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
  EXPECT_TRUE(ChooseDevice(DeviceWish::kCpu, 0, 1, nobody_asks).ok());
}

TEST(ChooseDeviceTest, RanksOfAHostTakeItsGpusInTurn) {
  for (int rank = 0; rank < 6; ++rank) {
    const ChosenDevice chosen = ChooseDevice(DeviceWish::kCuda, rank, 1, Gpus(4)).value();
    EXPECT_THAT(chosen.device->Description(), HasSubstr(std::to_string(10 + rank % 4) + " threads"));
  }
}

TEST(ChooseDeviceTest, AllSayHearsEveryRank) {
  for (const int dissenter : {-1, 0, 2}) {
    auto group = MakeThreadGroup(3);
    std::vector<std::thread> threads;
    std::vector<absl::StatusOr<bool>> heard(3, absl::UnknownError(""));
    for (int rank = 0; rank < 3; ++rank) {
      threads.emplace_back([&, rank] { heard[rank] = AllSay(*group[rank], rank != dissenter); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const absl::StatusOr<bool>& all : heard) EXPECT_EQ(all.value(), dissenter < 0);
  }
}

}  // namespace
}  // namespace lockstep
