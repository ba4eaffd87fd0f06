// SPDX-License-Identifier: Apache-2.0
#include "worker/device/named_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/unit/worker/fake_gpus.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NamedDeviceTest, NamesAreReadInAnyCase) {
  EXPECT_EQ(ParseDeviceName("AUTO").value().wish, DeviceWish::kAuto);
  EXPECT_EQ(ParseDeviceName("Cpu").value().wish, DeviceWish::kCpu);
  EXPECT_EQ(ParseDeviceName("cuda").value().wish, DeviceWish::kCuda);
  EXPECT_EQ(ParseDeviceName("cuda").value().index, 0);
  EXPECT_EQ(ParseDeviceName("CUDA:3").value().wish, DeviceWish::kCuda);
  EXPECT_EQ(ParseDeviceName("CUDA:3").value().index, 3);
}

TEST(NamedDeviceTest, OtherNamesAreRefusedWithWhatMayBeGiven) {
  for (const char* text : {"", "tpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "cpu:0", "cuda 0"}) {
    const absl::Status status = ParseDeviceName(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(absl::StrCat("\"", text, "\"")), HasSubstr("AUTO")));
  }
}

TEST(NamedDeviceTest, TheGpuOfThatNumberIsOpened) {
  const ChosenDevice second = OpenNamedDevice({DeviceWish::kCuda, 1}, 1, FakeGpus(2)).value();
  EXPECT_EQ(second.gpu.value().uuid, "GPU-1");
  EXPECT_THAT(second.device->Description(), HasSubstr("11 threads"));
}

TEST(NamedDeviceTest, AutoTakesTheFirstGpuElseTheCpuAndSaysWhy) {
  EXPECT_EQ(OpenNamedDevice({}, 1, FakeGpus(2)).value().gpu.value().index, 0);
  const ChosenDevice cpu = OpenNamedDevice({}, 2, FakeGpus(0)).value();
  EXPECT_FALSE(cpu.gpu.has_value());
  EXPECT_THAT(cpu.device->Description(), HasSubstr("2 threads"));
  EXPECT_EQ(cpu.why_cpu, "the machine is a toaster");
}

TEST(NamedDeviceTest, AGpuThatThereIsNotIsAnError) {
  const absl::Status none = OpenNamedDevice({DeviceWish::kCuda, 0}, 1, FakeGpus(0)).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.message()), AllOf(HasSubstr("the machine is a toaster"), HasSubstr("lockstep devices")));
  const absl::Status third = OpenNamedDevice({DeviceWish::kCuda, 2}, 1, FakeGpus(2)).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(third.message()), AllOf(HasSubstr("GPU 2"), HasSubstr("0 to 1")));
}

TEST(NamedDeviceTest, TheCpuDoesNotAskForGpus) {
  const GpuSource nobody_asks{[]() -> GpuList {
                                ADD_FAILURE();
                                return {};
                              },
                              nullptr};
  EXPECT_FALSE(OpenNamedDevice({DeviceWish::kCpu}, 1, nobody_asks).value().gpu.has_value());
}

}  // namespace
}  // namespace lockstep
