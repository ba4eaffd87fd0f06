// SPDX-License-Identifier: Apache-2.0
// Scripted scenarios: testdata/*.txt hold commands and, indented, what the core must do.
// LOCKSTEP_REWRITE=1 writes what it does instead; read the difference before you keep it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/scenario/script.h"

namespace lockstep::sim {
namespace {

std::string Folder() {
  const char* source = std::getenv("LOCKSTEP_SOURCE_DIR");
  return std::string(source == nullptr ? "." : source) + "/tests/scenario/testdata";
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Folder())) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(ScenarioTest, EveryScriptGivesItsTranscript) {
  const bool rewrite = std::getenv("LOCKSTEP_REWRITE") != nullptr;
  const std::vector<std::string> names = Names();
  EXPECT_GE(names.size(), 10u);
  for (const std::string& name : names) {
    const std::string path = Folder() + "/" + name + ".txt";
    std::ostringstream expected;
    expected << std::ifstream(path).rdbuf();
    const std::string actual = Script().Run(expected.str());
    EXPECT_EQ(actual.find("BROKEN"), std::string::npos) << name << "\n" << actual;
    if (rewrite) {
      std::ofstream(path) << actual;
      continue;
    }
    EXPECT_EQ(actual, expected.str()) << name;
  }
}

TEST(ScenarioTest, AnotherOutcomeIsAnotherTranscript) {
  const std::string script = "submit a workers=1\n";
  const std::string transcript = Script().Run(script);
  EXPECT_NE(transcript, script);
  EXPECT_EQ(Script().Run(transcript), transcript);
  EXPECT_NE(Script().Run("submit a workers=2\n").find("with 2 from step 0"), std::string::npos);
}

}  // namespace
}  // namespace lockstep::sim
