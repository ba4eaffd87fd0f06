// SPDX-License-Identifier: Apache-2.0
#include "server/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

namespace lockstep {
namespace {

ParsedFlags Parse(std::initializer_list<const char*> arguments) {
  std::vector<const char*> argv{"lockstepd"};
  argv.insert(argv.end(), arguments);
  return ParseFlags(static_cast<int>(argv.size()), argv.data());
}

TEST(Flags, HaveDefaults) {
  const ParsedFlags parsed = Parse({});
  EXPECT_FALSE(parsed.done) << parsed.message;
  EXPECT_FALSE(parsed.flags.production);
  EXPECT_EQ(parsed.flags.failpoints, "");
  EXPECT_EQ(parsed.flags.scratch_root, "");
  EXPECT_GE(parsed.flags.slots, 4);
}

TEST(Flags, PathsForWorkersAreAbsolute) {
  const ParsedFlags parsed = Parse({"--failpoints", "points", "--scratch-root", "./shared/"});
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(parsed.flags.failpoints, here + "/points");
  EXPECT_EQ(parsed.flags.scratch_root, here + "/shared/");
}

TEST(Flags, ProductionRefusesWhatIsForTests) {
  EXPECT_FALSE(Parse({"--production"}).done);
  const ParsedFlags armed = Parse({"--production", "--failpoints=/points"});
  EXPECT_EQ(armed.exit_code, 2);
  EXPECT_THAT(armed.message, testing::HasSubstr("--failpoints is refused with --production"));
  const ParsedFlags open = Parse({"--insecure", "--listen=0.0.0.0:1", "--production"});
  EXPECT_EQ(open.exit_code, 2);
  EXPECT_THAT(open.message, testing::HasSubstr("--insecure is refused with --production"));
}

TEST(Flags, ListeningBeyondThisMachineIsToBeAskedFor) {
  EXPECT_EQ(Parse({"--listen=0.0.0.0:1"}).exit_code, 2);
  EXPECT_FALSE(Parse({"--listen=0.0.0.0:1", "--insecure"}).done);
  EXPECT_EQ(Parse({"--worker-listen=10.0.0.1:1"}).exit_code, 2);
  EXPECT_EQ(Parse({"--worker-listen=10.0.0.1:1", "--insecure"}).flags.worker_listen, "10.0.0.1:1");
  EXPECT_FALSE(Parse({"--worker-listen=127.0.0.1:1"}).done);
}

}  // namespace
}  // namespace lockstep
