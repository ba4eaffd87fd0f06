// SPDX-License-Identifier: Apache-2.0
// What is planned is what a CPU worker takes: the same for row-major models, and a stated bound where images lie
// otherwise.
#include "common/model/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/model/input_plan.h"
#include "tests/unit/worker/limited_device.h"
#include "worker/comm/tree_plan.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"

namespace lockstep {
namespace {

constexpr int64_t kNoLimit = INT64_MAX;

class MemoryPlanTest : public ::testing::Test {
 protected:
  // A job of 1000 samples of this shape.
  void Load(const std::string& sample, const std::string& layers, const std::string& loss,
            const std::string& more = "optimizer: {sgd: {}}") {
    Violations violations;
    spec_ = ParseJobFile(absl::StrCat("{name: a, model: {layers: ", layers, "}, loss: ", loss, ", ", more,
                                      ", training: {batch_size: 600, epochs: 1, logical_shards: 4}, "
                                      "resources: {workers: 1}}"),
                         "test", violations);
    std::vector<int64_t> dims;
    for (const absl::string_view dim : absl::StrSplit(sample, ',')) dims.push_back(std::stoll(std::string(dim)));
    const DatasetInfo info{.sample = Shape(dims), .train_samples = 1000, .test_samples = 100, .classes = 2};
    plan_ = PlanJob(spec_, &info, violations);
    for (const Violation& v : violations.list()) {
      // The data set is the test's own.
      if (!v.field.starts_with("dataset")) ADD_FAILURE() << v.field << ": " << v.description;
    }
  }

  struct Taken {
    int64_t model = 0;
    int64_t optimizer = 0;
    int64_t parameters = 0;
  };
  Taken Take(int owned = 4) {
    LimitedDevice device(MakeCpuDevice(1), kNoLimit);
    const int64_t rows = std::max<int64_t>(150, kEvaluationRows);
    auto model = Model::Create(&device, plan_.model, spec_.loss(), DType::kF32, rows, {}, owned);
    EXPECT_TRUE(model.ok()) << model.status();
    Taken taken{.model = device.allocated()};
    const Tensor parameters = (*model)->parameters();
    taken.parameters = static_cast<int64_t>(parameters.bytes());
    auto optimizer = MakeOptimizer(spec_.optimizer(), device, parameters.elements(), DType::kF32);
    EXPECT_TRUE(optimizer.ok());
    taken.optimizer = device.allocated() - taken.model;
    return taken;
  }

  v1::JobSpec spec_;
  JobPlan plan_;
};

constexpr const char* kLogits = "{sparse_categorical_crossentropy: {from_logits: true}}";

TEST_F(MemoryPlanTest, RowMajorModelsTakeWhatIsPlanned) {
  const std::pair<const char*, const char*> kModels[] = {
      {"28,28", "[{flatten: {}}, {dense: {units: 16, activation: relu}}, {dense: {units: 10}}]"},
      {"20", "[{dense: {units: 16, activation: gelu}}, {dropout: {rate: 0.1}}, {dense: {units: 5}}]"},
      // A frozen layer before the first trained one.
      {"20", "[{dense: {units: 16, activation: tanh}, trainable: false}, {dense: {units: 5, activation: elu}}]"},
      {"6,8",
       "[{layer_normalization: {}}, {reshape: {target_shape: [48]}}, {layer_normalization: {}}, {dense: {units: 3}}]"},
      {"20", "[{batch_normalization: {}}, {dense: {units: 4}}, {leaky_relu: {}}, {dense: {units: 3}}]"},
      {"20",
       "[{dense: {units: 8}, name: a}, {relu: {}, name: b, inputs: [a]}, {dense: {units: 8}, name: c, inputs: [b]}, "
       "{add: {}, name: d, inputs: [c, a]}, {dense: {units: 3}, inputs: [d]}]"},
      {"20",
       "[{dense: {units: 8}, name: a}, {relu: {}, name: b, inputs: [a]}, {tanh: {}, name: c, inputs: [a]}, "
       "{concatenate: {}, name: d, inputs: [a, b, c]}, {dense: {units: 3}, inputs: [d]}]"},
  };
  for (const auto& [sample, layers] : kModels) {
    SCOPED_TRACE(layers);
    Load(sample, layers, kLogits);
    const MemoryPlan plan = PlanMemory(spec_, plan_, 0, 1);
    const Taken taken = Take();
    EXPECT_EQ(plan.parameters, taken.parameters);
    EXPECT_EQ(plan.parameters + plan.activations, taken.model);
  }
}

TEST_F(MemoryPlanTest, ALastLayerThatIsOneWithTheLossIsCountedOnce) {
  Load("20", "[{dense: {units: 16, activation: relu}}, {dense: {units: 10, activation: softmax}}]",
       "{sparse_categorical_crossentropy: {}}");
  const MemoryPlan plan = PlanMemory(spec_, plan_, 0, 1);
  EXPECT_EQ(plan.parameters + plan.activations, Take().model);
}

TEST_F(MemoryPlanTest, AGpuKeepsDenseKernelsInSixteenBitsToo) {
  Load("20", "[{layer_normalization: {}}, {dense: {units: 16, activation: relu}}, {dense: {units: 10}}]", kLogits);
  const int64_t floats = PlanMemory(spec_, plan_, 0, 1).parameters;
  spec_.mutable_training()->set_precision(v1::PRECISION_MIXED_BFLOAT16);
  EXPECT_EQ(PlanMemory(spec_, plan_, 0, 1).parameters, floats);
  spec_.mutable_resources()->set_device(v1::DEVICE_CUDA);
  // Both kernels and the bias between them.
  EXPECT_EQ(PlanMemory(spec_, plan_, 0, 1).parameters, floats + (20 * 16 + 16 + 16 * 10) * 2);
}

TEST_F(MemoryPlanTest, LayersThatNeedTheWholeBatchHoldAllShards) {
  Load("20", "[{dense: {units: 16}}, {batch_normalization: {synchronized: true}}, {dense: {units: 3}}]", kLogits);
  for (const int workers : {1, 2, 4}) {
    const MemoryPlan plan = PlanMemory(spec_, plan_, 0, workers);
    EXPECT_EQ(plan.parameters + plan.activations, Take(4 / workers).model);
  }
}

// Images lie with 16 samples side by side, and are copied where the samples come in and the last layer goes on.
TEST_F(MemoryPlanTest, ImagesTakeAtMostHalfAsMuchAgain) {
  for (const char* layers :
       {"[{conv2d: {filters: 6, kernel_size: [5, 5], activation: relu}}, {max_pooling2d: {pool_size: [2, 2]}}, "
        "{conv2d: {filters: 16, kernel_size: [5, 5], activation: relu}}, {max_pooling2d: {pool_size: [2, 2]}}, "
        "{flatten: {}}, {dense: {units: 10}}]",
        "[{conv2d: {filters: 8, kernel_size: [3, 3], padding: SAME}}, {batch_normalization: {}}, {relu: {}}, "
        "{group_normalization: {groups: 2}}, {global_average_pooling2d: {}}, {dense: {units: 10}}]"}) {
    SCOPED_TRACE(layers);
    Load("1,28,28", layers, kLogits);
    const MemoryPlan plan = PlanMemory(spec_, plan_, 0, 1);
    const int64_t taken = Take().model;
    EXPECT_GE(taken, plan.parameters + plan.activations);
    EXPECT_LE(taken, plan.parameters + plan.activations * 3 / 2);
  }
}

TEST_F(MemoryPlanTest, EveryOptimizersStateIsCounted) {
  // Besides there is a number or two a tensor.
  constexpr int64_t kSums = 1024;
  for (const char* optimizer : {"sgd: {}", "sgd: {momentum: 0.9}", "sgd: {momentum: 0.9, nesterov: true}", "adam: {}",
                                "adam: {amsgrad: true}", "adamw: {}", "adamw: {amsgrad: true}", "nadam: {}", "lion: {}",
                                "lamb: {}", "lars: {}", "adagrad: {}", "rmsprop: {}", "rmsprop: {centered: true}",
                                "rmsprop: {momentum: 0.5}", "rmsprop: {centered: true, momentum: 0.5}",
                                "adam: {}, use_ema: true", "sgd: {}, gradient_accumulation_steps: 4"}) {
    SCOPED_TRACE(optimizer);
    Load("200", "[{dense: {units: 100}}, {dense: {units: 3}}]", kLogits, absl::StrCat("optimizer: {", optimizer, "}"));
    const MemoryPlan plan = PlanMemory(spec_, plan_, 0, 1);
    const int64_t taken = Take().optimizer;
    EXPECT_GE(taken, plan.optimizer);
    EXPECT_LE(taken, plan.optimizer + kSums);
  }
  // A new kind needs a row above.
  EXPECT_EQ(v1::OptimizerSpec::descriptor()->oneof_decl(0)->field_count(), 9);
}

TEST_F(MemoryPlanTest, GradientsAreTheSumsThatARankHolds) {
  Load("20", "[{dense: {units: 3}}]", kLogits);
  const int64_t one = PlanMemory(spec_, plan_, 0, 4).parameters;
  EXPECT_EQ(PlanMemory(spec_, plan_, 0, 4).gradients, one);
  EXPECT_EQ(PlanMemory(spec_, plan_, 0, 2).gradients, 2 * one);
  EXPECT_EQ(PlanMemory(spec_, plan_, 0, 1).gradients, 3 * one);
  // Shards 1 and 2 are no subtree: both are left.
  plan_.logical_shards = 8;
  EXPECT_EQ(Decompose(OwnedShards(1, 3, 8)).size(), 2u);
  // On GPUs a third of what others have left comes in.
  spec_.mutable_resources()->set_device(v1::DEVICE_CUDA);
  const MemoryPlan middle = PlanMemory(spec_, plan_, 1, 3);
  EXPECT_EQ(middle.gradients, 2 * one + (1 + 2) * one / 3);
  EXPECT_GT(middle.workspace, 0);
}

TEST_F(MemoryPlanTest, IsTextForPeople) {
  EXPECT_EQ(BytesText(12), "12 bytes");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText(int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(
      MemoryText({.parameters = 2048, .data = 1}),
      "2.0 KiB in all: parameters 2.0 KiB, gradients 0 bytes, optimizer 0 bytes, activations 0 bytes, workspace 0 "
      "bytes, data 1 bytes");
}

}  // namespace
}  // namespace lockstep
