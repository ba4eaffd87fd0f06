// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

TEST(PlanTest, RanksThatTakeTheSameShareAColumn) {
  const MemoryPlan small{.parameters = 1024, .data = 10}, large{.parameters = 1024, .gradients = 2048, .data = 10};
  const std::string table = MemoryTable({small, large, large});
  EXPECT_THAT(table, HasSubstr("MEMORY"));
  EXPECT_THAT(table, HasSubstr("rank 0"));
  EXPECT_THAT(table, HasSubstr("ranks 1 to 2"));
  EXPECT_THAT(table, HasSubstr("total         1.0 KiB"));
  EXPECT_THAT(MemoryTable({small, small}), HasSubstr("each of 2 ranks"));
}

TEST(PlanTest, APlanIsPrintedForPeopleAndPrograms) {
  std::string folder = ::testing::TempDir() + "lockstep-plan-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/job.yaml";
  std::ofstream(file) << "{name: a, model: {input_shape: [784], layers: [{dense: {units: 16, activation: relu}}, "
                         "{dense: {units: 10}}]}, loss: {sparse_categorical_crossentropy: {from_logits: true}}, "
                         "optimizer: {adam: {}}, training: {batch_size: 32, epochs: 1}, resources: {workers: 2}, "
                         "dataset: {idx: {path: there-is-none}}}";
  std::ostringstream out, err;
  Options options{.json = true, .out = &out, .err = &err};
  ASSERT_EQ(PlanCommand(options, file, {}), kOk) << err.str();
  const auto json = nlohmann::json::parse(out.str());
  ASSERT_EQ(json["ranks"].size(), 2u);
  // 784 x 16 + 16 + 16 x 10 + 10, each from a 64-byte line on.
  EXPECT_EQ(json["ranks"][0]["parameters_bytes"], 4 * (12544 + 16 + 160 + 16));
  EXPECT_EQ(json["ranks"][0]["gradients_bytes"], json["ranks"][0]["parameters_bytes"]);
  EXPECT_EQ(json["ranks"][0]["optimizer_bytes"], 2 * 4 * (12544 + 16 + 160 + 16));
  EXPECT_GT(json["ranks"][1]["total_bytes"], json["ranks"][1]["activations_bytes"]);
  EXPECT_THAT(err.str(), HasSubstr("not at hand"));
  out.str("");
  options.json = false;
  ASSERT_EQ(PlanCommand(options, file, {"resources.workers=1"}), kOk);
  EXPECT_THAT(out.str(), HasSubstr("parameters    49.8 KiB"));
  EXPECT_EQ(PlanCommand(options, file, {"training.batch_size=0"}), kUsage);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace lockstep::cli
