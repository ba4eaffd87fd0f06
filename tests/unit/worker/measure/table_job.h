// SPDX-License-Identifier: Apache-2.0
// A small job with a data set of its own: a table of two classes, in two shards.
#pragma once

#include <fstream>
#include <string>

#include "common/rng.h"
#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {

class TableJobTest : public TrainerTest {
 protected:
  void SetUp() override {
    TrainerTest::SetUp();
    std::ofstream file(folder_ / "table.csv");
    file << "a,b,c,d,class\n";
    const RngStream stream{7, RngPurpose::kSynthetic, 0};
    for (uint64_t row = 0; row < 100; ++row) {
      const char* const name = row % 2 == 0 ? "even" : "odd";
      for (uint64_t i = 0; i < 4; ++i) file << stream.Uniform(4 * row + i) + (row % 2 == 0 ? 0.F : 0.5F) << ",";
      file << name << "\n";
    }
  }

  std::vector<std::string> Roots() const { return {folder_.string()}; }
  std::string Table() const { return (folder_ / "table.csv").string(); }

  static v1::JobSpec TableSpec() {
    v1::JobSpec spec;
    const auto status = google::protobuf::util::JsonStringToMessage(
        R"({"name": "table", "seed": 5,
            "dataset": {"csv": {"path": "table.csv", "targetColumns": ["class"], "classifyTarget": true}},
            "model": {"layers": [{"dense": {"units": 8, "activation": "relu"}}, {"dropout": {"rate": 0.2}},
                                 {"dense": {"units": 2}}]},
            "loss": {"sparse_categorical_crossentropy": {"from_logits": true}},
            "optimizer": {"adam": {"learning_rate": 0.01}},
            "training": {"batch_size": 16, "epochs": 2, "logical_shards": 2},
            "resources": {"workers": 1}})",
        &spec);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return spec;
  }
};

}  // namespace lockstep
