// SPDX-License-Identifier: Apache-2.0
#include "cli/job_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/exit_codes.h"
#include "cli/options.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

class JobSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("lockstep-job-" + std::to_string(getpid()) + ".yaml");
    options_.out = &out_;
    options_.err = &err_;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  int Load(const std::string& text, const std::vector<std::string>& overrides) {
    std::ofstream(path_) << text;
    return LoadJob(options_, path_, overrides, &spec_);
  }
  std::filesystem::path path_;
  std::ostringstream out_, err_;
  Options options_;
  v1::JobSpec spec_;
};

TEST_F(JobSourceTest, OverridesReplaceAndAddFields) {
  EXPECT_EQ(Load("name: a\ntraining: {epochs: 5}\n",
                 {"training.epochs=1", "resources.workers=3", "dataset.idx.path=synthetic-digits"}),
            kOk)
      << err_.str();
  EXPECT_EQ(spec_.training().epochs(), 1);
  EXPECT_EQ(spec_.resources().workers(), 3);
  EXPECT_EQ(spec_.dataset().idx().path(), "synthetic-digits");
  EXPECT_EQ(spec_.name(), "a");
}

TEST_F(JobSourceTest, FaultsNameThePlaceInTheFile) {
  EXPECT_EQ(Load("name: a\nseed: soon\n", {}), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr(":2:7)"));
}

TEST_F(JobSourceTest, AFieldThatDoesNotExistIsRefusedInAnOverrideToo) {
  EXPECT_EQ(Load("name: a\n", {"training.epoch=1"}), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("did you mean \"epochs\"?"));
  EXPECT_EQ(Load("name: a\n", {"training"}), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("PATH=VALUE"));
}

TEST_F(JobSourceTest, AMissingFileIsNamed) {
  EXPECT_EQ(LoadJob(options_, "/nowhere/job.yaml", {}, &spec_), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("/nowhere/job.yaml"));
}

TEST_F(JobSourceTest, TheServerIsChosenByFlagThenEnvironmentThenFile) {
  std::ofstream(path_) << "server: from-file:1\n";
  unsetenv("LOCKSTEP_SERVER");
  EXPECT_EQ(ChooseServer("", path_).server, "from-file:1");
  setenv("LOCKSTEP_SERVER", "from-env:1", 1);
  EXPECT_EQ(ChooseServer("", path_).server, "from-env:1");
  EXPECT_EQ(ChooseServer("flag:1", path_).server, "flag:1");
  unsetenv("LOCKSTEP_SERVER");
  std::ofstream(path_) << "sever: x\n";
  EXPECT_THAT(ChooseServer("", path_).error, HasSubstr("unknown key \"sever\""));
  EXPECT_FALSE(ChooseServer("", "/nowhere/config.yaml").error.empty());
}

}  // namespace
}  // namespace lockstep::cli
