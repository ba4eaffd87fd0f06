// SPDX-License-Identifier: Apache-2.0
#include "cli/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

HostDevices OneGpu() {
  HostDevices devices{.cpu = {"Some Processor", "avx2", 8}};
  devices.gpus = {.gpus = {{.index = 0,
                            .name = "NVIDIA H200",
                            .uuid = "GPU-1234",
                            .memory_bytes = int64_t{141} << 30,
                            .major = 9,
                            .minor = 0,
                            .multiprocessors = 132,
                            .pci = "0000:17:00.0"}},
                  .driver_release = "580.65.06",
                  .driver = "13.0",
                  .runtime = "13.0",
                  .blas = "13.1.0",
                  .dnn = "9.19.0"};
  return devices;
}

TEST(DevicesTest, TheTableHasEachDeviceAndTheVersions) {
  const std::string table = DevicesTable(OneGpu());
  for (const char* part : {"Some Processor", "avx2", "8 threads", "cuda:0", "NVIDIA H200", "141.0 GiB", "9.0",
                           "0000:17:00.0", "driver 580.65.06, CUDA 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0"}) {
    EXPECT_THAT(table, HasSubstr(part));
  }
}

TEST(DevicesTest, WithoutAGpuTheTableSaysWhy) {
  const HostDevices devices{.cpu = {"Some Processor", "avx2", 8}, .gpus = {.none_because = "there is no driver"}};
  EXPECT_THAT(DevicesTable(devices), HasSubstr("no GPU: there is no driver\n"));
  EXPECT_EQ(nlohmann::json::parse(DevicesJson(devices))["no_gpu_because"], "there is no driver");
}

TEST(DevicesTest, ProgramsGetNumbers) {
  const nlohmann::json json = nlohmann::json::parse(DevicesJson(OneGpu()));
  EXPECT_EQ(json["cpu"]["threads"], 8);
  ASSERT_EQ(json["gpus"].size(), 1u);
  EXPECT_EQ(json["gpus"][0]["memory_bytes"], int64_t{141} << 30);
  EXPECT_EQ(json["gpus"][0]["compute_capability"], "9.0");
  EXPECT_EQ(json["driver"], "580.65.06");
}

}  // namespace
}  // namespace lockstep::cli
