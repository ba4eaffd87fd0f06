// SPDX-License-Identifier: Apache-2.0
// How much a training step gives the GPU to do: each kernel, product, copy and fill takes a microsecond or more to
// begin, which is most of a small step.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/model/job_plan.h"
#include "common/model/model_plan.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/emulator/counts.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {
namespace {

struct Network {
  std::vector<int64_t> units;
  int64_t batch;
  ProductPrecision precision;
};

v1::ModelSpec DenseLayers(const std::vector<int64_t>& units) {
  v1::ModelSpec spec;
  for (const int64_t n : units) {
    v1::LayerSpec& layer = *spec.add_layers();
    layer.mutable_dense()->set_units(n);
    layer.mutable_dense()->set_activation("relu");
  }
  spec.add_layers()->mutable_dense()->set_units(10);
  return spec;
}

// The network that is compared with PyTorch's.
v1::ModelSpec ResNet18() {
  std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/bench/compare/resnet18.json");
  std::ostringstream text;
  text << file.rdbuf();
  Violations violations;
  const v1::JobSpec job = ParseJobFile(text.str(), "resnet18.json", violations);
  for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << ": " << v.description;
  return job.model();
}

class Launches : public ::testing::Test {
 protected:
  void SetUp() override { emulated::counts = {.dry = true}; }
  void TearDown() override { emulated::counts = {}; }

  // Of a step's gathering, forward and backward pass, check and update, after a first one.
  static int64_t Step(const v1::ModelSpec& spec, const Shape& sample, int64_t batch, ProductPrecision precision) {
    Violations violations;
    const ModelPlan plan = PlanModel(spec, sample, violations);
    const std::unique_ptr<Device> device = MakeTestDevice();
    Arrays arrays(device.get());
    const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
    const std::unique_ptr<Model> model =
        Model::Create(device.get(), plan, loss, DType::kF32, batch, {}, 1, precision).value();
    const Tensor pixels = arrays.Zeros(Batched(batch, sample), DType::kU8),
                 x = arrays.Zeros(Batched(batch, sample), DType::kF32);
    const Tensor labels = arrays.Zeros({batch}, DType::kI32), y = arrays.Zeros({batch}, DType::kI32);
    const Tensor indices = arrays.Zeros({batch}, DType::kI64);
    const Tensor gradient = arrays.Zeros(model->parameters().shape, DType::kF32);
    const Tensor stats = arrays.Zeros({model->stats_width()}, DType::kF64), flag = arrays.Zeros({1}, DType::kF64);
    const auto step = [&] {
      device->GatherRows(pixels, indices, {}, x);
      device->GatherLabels(labels, indices, y);
      model->ForwardBackward({.training = true}, {x, y, batch}, 1.0, gradient, stats, nullptr);
      device->CheckFinite(gradient, flag);
      device->ApplyUpdate(UpdateRule::kSgd, {}, model->parameters(), gradient, {});
    };
    step();
    const int64_t before = emulated::counts.enqueued;
    step();
    EXPECT_TRUE(device->status().ok()) << device->status();
    return emulated::counts.enqueued - before;
  }
  static int64_t Step(const Network& network) {
    return Step(DenseLayers(network.units), Shape{784}, network.batch, network.precision);
  }
  // The same where the library does nothing for gradients.
  static int64_t StepWithoutGradientEpilogues(const Network& network) {
    emulated::counts.refuse_gradients = true;
    const int64_t launches = Step(network);
    emulated::counts.refuse_gradients = false;
    return launches;
  }
};

// Two to gather samples and labels, two of the chain, two to look for what is not finite, and the update.
TEST_F(Launches, OfASmallNetwork) { EXPECT_EQ(Step({{128}, 32, ProductPrecision::kFloat}), 7); }

TEST_F(Launches, OfALargerOne) {
  const Network network{{128}, 256, ProductPrecision::kFloat};
  EXPECT_EQ(StepWithoutGradientEpilogues(network), 16);
  EXPECT_EQ(Step(network), 13);
}

TEST_F(Launches, OfWideLayers) {
  const std::vector<int64_t> units{4096, 4096, 4096};
  EXPECT_EQ(StepWithoutGradientEpilogues({units, 4096, ProductPrecision::kTf32}), 30);
  EXPECT_EQ(Step({units, 4096, ProductPrecision::kTf32}), 19);
  EXPECT_EQ(StepWithoutGradientEpilogues({units, 4096, ProductPrecision::kBf16}), 48);
  EXPECT_EQ(Step({units, 4096, ProductPrecision::kBf16}), 27);
}

// What gives it its input's gradient applies that of ReLU.
TEST_F(Launches, ReluOfAConvolutionCostsNothing) {
  const auto step = [](const std::string& activation, ProductPrecision precision) {
    const std::string layers = "layers { conv2d { filters: 8 kernel_size: 3 use_bias: false " + activation +
                               " } } layers { global_average_pooling2d {} } layers { dense { units: 10 } }";
    return Step(FromText<v1::ModelSpec>(layers), Shape{8, 12, 12}, 8, precision);
  };
  for (const ProductPrecision precision : {ProductPrecision::kTf32, ProductPrecision::kBf16}) {
    EXPECT_EQ(step("activation: 'relu'", precision), step("", precision));
  }
}

// As many as with 256 samples: sums are of several parts in both.
TEST_F(Launches, OfResNet) {
  constexpr int64_t kRows = 8;
  const Shape sample{3, 224, 224};
  EXPECT_EQ(Step(ResNet18(), sample, kRows, ProductPrecision::kTf32), 445);
  EXPECT_EQ(Step(ResNet18(), sample, kRows, ProductPrecision::kBf16), 448);
  EXPECT_EQ(Step(ResNet18(), sample, kRows, ProductPrecision::kFloat16), 448);
}

}  // namespace
}  // namespace lockstep::conformance
