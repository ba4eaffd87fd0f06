// SPDX-License-Identifier: Apache-2.0
// The plug-in that was built, on whatever machine this is.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "worker/device/device_loader.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

std::filesystem::path PluginPath() {
  return std::filesystem::path(std::getenv("LOCKSTEP_BIN_DIR")) / "liblockstep_cuda.so";
}

TEST(DevicePluginTest, ThePluginLoadsWithoutAGpuAndSaysThatThereIsNone) {
  const std::filesystem::path path = PluginPath();
  const absl::StatusOr<const DevicePlugin*> plugin = OpenPlugin(path);
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_NE((*plugin)->reduce_ops, nullptr);
  EXPECT_NE((*plugin)->timer, nullptr);
  const GpuList list = (*plugin)->list();
  EXPECT_NE(list.runtime, "");
  EXPECT_NE(list.blas, "");
  EXPECT_NE(list.dnn, "");
  if (!list.gpus.empty()) return;
  EXPECT_THAT(list.none_because, HasSubstr("NVIDIA driver"));
  const absl::Status made = (*plugin)->make(0).status();
  EXPECT_EQ(made.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(made.message()), HasSubstr(list.none_because));
}

// In a process of its own: who watches is settled once.
[[noreturn]] void RunWatched(const DevicePlugin& plugin) {
  setenv("NVTX_INJECTION64_PATH", LOCKSTEP_TEST_PROFILER, 1);
  const std::unique_ptr<RangeMarker> ranges = plugin.ranges();
  if (ranges == nullptr) std::exit(2);
  {
    const ScopedRange step(ranges.get(), "step");
    const ScopedRange data(ranges.get(), "data");
  }
  InRange(ranges.get(), "update", [] { return 0; });
  void* const profiler = dlopen(LOCKSTEP_TEST_PROFILER, RTLD_NOW | RTLD_NOLOAD);
  if (profiler == nullptr) std::exit(3);
  const auto seen = reinterpret_cast<const char* (*)()>(dlsym(profiler, "lockstep_test_ranges"));
  std::fprintf(stderr, "%s", seen());
  std::exit(0);
}

TEST(DevicePluginTest, AProfilerIsToldOfRangesAndWithoutOneThereAreNone) {
  const absl::StatusOr<const DevicePlugin*> plugin = OpenPlugin(PluginPath());
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_EXIT(RunWatched(**plugin), testing::ExitedWithCode(0), "lockstep: step\\(data\\(\\)\\)update\\(\\)");
  unsetenv("NVTX_INJECTION64_PATH");
  EXPECT_EQ((*plugin)->ranges(), nullptr);
}

TEST(DevicePluginTest, ThePluginRefusesAProgramOfAnotherBuild) {
  const std::filesystem::path path = PluginPath();
  ASSERT_TRUE(OpenPlugin(path).ok());
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr);
  const auto function = reinterpret_cast<DevicePluginFunction>(dlsym(library, kDevicePluginFunction));
  ASSERT_NE(function, nullptr);
  EXPECT_EQ(function("another build"), nullptr);
}

}  // namespace
}  // namespace lockstep
