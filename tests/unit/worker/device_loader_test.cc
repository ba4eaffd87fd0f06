// SPDX-License-Identifier: Apache-2.0
// Finding and loading the CUDA plug-in, on machines with and without a GPU.
#include "worker/device/device_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class DeviceLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "lockstep-loader-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    fs::remove_all(folder_);
    for (const char* name : {"LOCKSTEP_PLUGIN_PATH", "LOCKSTEP_CUDA_LIB_PATH", "VIRTUAL_ENV"}) unsetenv(name);
  }
  fs::path folder_;
};

TEST_F(DeviceLoaderTest, LooksForThePluginWhereItIsToldFirstAndThenBesideTheProgram) {
  setenv("LOCKSTEP_PLUGIN_PATH", "/one:/two", 1);
  const std::vector<std::string> folders = PluginFolders();
  ASSERT_GE(folders.size(), 4u);
  EXPECT_EQ(folders[0], "/one");
  EXPECT_EQ(folders[1], "/two");
  EXPECT_EQ(folders[2], fs::read_symlink("/proc/self/exe").parent_path());
  EXPECT_EQ(folders[3], fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "lib");
}

TEST_F(DeviceLoaderTest, LooksForCudaInThePythonPackages) {
  const fs::path packages = folder_ / "lib" / "python3.11" / "site-packages" / "nvidia";
  fs::create_directories(packages / "cublas" / "lib");
  fs::create_directories(packages / "cu13" / "lib");
  fs::create_directories(packages / "empty");
  setenv("VIRTUAL_ENV", folder_.c_str(), 1);
  setenv("LOCKSTEP_CUDA_LIB_PATH", "/mine:/yours", 1);
  EXPECT_EQ(CudaFoldersFirst(), (std::vector<std::string>{"/mine", "/yours"}));
  const std::vector<std::string> folders = CudaFoldersLast();
  EXPECT_THAT(folders, Contains((packages / "cublas" / "lib").native()));
  EXPECT_THAT(folders, Contains((packages / "cu13" / "lib").native()));
  EXPECT_THAT(folders, Not(Contains((packages / "empty" / "lib").native())));
}

TEST_F(DeviceLoaderTest, LooksForCudaBesideThePythonOfThePath) {
  const fs::path lib = folder_ / "lib" / "python3.12" / "site-packages" / "nvidia" / "cudnn" / "lib";
  fs::create_directories(lib);
  fs::create_directories(folder_ / "bin");
  const std::string path = std::getenv("PATH");
  setenv("PATH", ((folder_ / "bin").native() + ":" + path).c_str(), 1);
  EXPECT_THAT(CudaFoldersLast(), Not(Contains(lib.native()))) << "there is no python3 there";
  // In an environment it is a link to the system's.
  fs::create_symlink("/usr/bin/env", folder_ / "bin" / "python3");
  EXPECT_THAT(CudaFoldersLast(), Contains(lib.native()));
  setenv("PATH", path.c_str(), 1);
}

TEST_F(DeviceLoaderTest, NamesTheLibraryThatIsMissingAndFindsItWhereItIsTold) {
  const fs::path plugin = folder_ / "liblockstep_cuda.so";
  fs::copy_file(fs::path(LOCKSTEP_TEST_LIBRARIES) / "liblockstep_test_wanting.so", plugin);
  const absl::Status missing = OpenPlugin(plugin).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      missing.message(),
      "the CUDA library liblockstep_test_wanted.so was not found; set LOCKSTEP_CUDA_LIB_PATH to the folder it is in");
  setenv("LOCKSTEP_CUDA_LIB_PATH", LOCKSTEP_TEST_LIBRARIES, 1);
  const absl::Status other = OpenPlugin(plugin).status();
  EXPECT_THAT(std::string(other.message()), HasSubstr("is not of this version of Lockstep")) << "it was loaded";
}

TEST_F(DeviceLoaderTest, SaysWhatIsWrongWithAFileThatIsNoPlugin) {
  const fs::path plugin = folder_ / "liblockstep_cuda.so";
  std::ofstream(plugin) << "no library";
  const absl::Status status = OpenPlugin(plugin).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("cannot load"), HasSubstr(plugin.native())));
}

TEST_F(DeviceLoaderTest, WithoutAGpuThereIsAReasonInOneSentence) {
  const GpuList list = ListGpus();
  if (!list.gpus.empty()) {
    EXPECT_EQ(list.none_because, "");
    return;
  }
  EXPECT_NE(list.none_because, "");
  EXPECT_NE(list.none_because.back(), '.');
  const absl::Status status = MakeCudaDevice(0).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(list.none_because));
}

}  // namespace
}  // namespace lockstep
