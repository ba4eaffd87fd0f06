// SPDX-License-Identifier: Apache-2.0
// How many operations a recorded step is made of: on a small network each takes longer to begin than to do.
#include <gtest/gtest.h>

#include "google/protobuf/util/json_util.h"
#include "tests/emulator/capture.h"
#include "tests/gpu/gpu.h"
#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

// Gather, the first layer, the others, decide, update.
constexpr int kOfAChain = 5;

class StepNodesTest : public TrainerTest {
 protected:
  // Operations of one step of the model's, with one shard.
  double NodesPerStep(const std::string& layers, const std::string& optimizer) {
    TrainOptions options{.run_seconds = 60, .device = MakeGpu};
    options.spec.mutable_model()->Clear();
    options.spec.mutable_optimizer()->Clear();
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(layers, options.spec.mutable_model()).ok());
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(optimizer, options.spec.mutable_optimizer()).ok());
    options.spec.mutable_training()->set_epochs(1);
    options.spec.mutable_training()->set_digest_interval_steps(1000);
    options.spec.mutable_training()->set_logical_shards(1);
    const emulated::GraphCounts before = emulated::CountGraphs();
    const Outcome outcome = Train(1, "run", options);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_GT(outcome.result.recorded_steps, 20);
    const emulated::GraphCounts after = emulated::CountGraphs();
    // Several steps for a launch.
    EXPECT_LT(after.launches - before.launches, outcome.result.recorded_steps);
    return static_cast<double>(after.nodes - before.nodes) / static_cast<double>(outcome.result.recorded_steps);
  }
};

TEST_F(StepNodesTest, OneHiddenLayer) {
  EXPECT_LE(NodesPerStep(R"({"layers": [{"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 2}}]})",
                         R"({"sgd": {"learning_rate": 0.01}})"),
            kOfAChain);
}

TEST_F(StepNodesTest, FourLayers) {
  EXPECT_LE(NodesPerStep(R"({"layers": [{"dense": {"units": 16, "activation": "relu"}},
                                        {"dense": {"units": 16, "activation": "relu"}},
                                        {"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 2}}]})",
                         R"({"adam": {"learning_rate": 0.01}})"),
            kOfAChain);
}

// A derivative that needs what was put in: layer by layer.
TEST_F(StepNodesTest, NoChain) {
  EXPECT_LE(NodesPerStep(R"({"layers": [{"dense": {"units": 16, "activation": "gelu"}}, {"dense": {"units": 2}}]})",
                         R"({"sgd": {"learning_rate": 0.01}})"),
            16);
}

}  // namespace
}  // namespace lockstep
