// SPDX-License-Identifier: Apache-2.0
// How much a training step gives the GPU to do: each kernel, product, copy and fill takes a microsecond or more to
// begin, which is most of a small step.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

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

class Launches : public ::testing::Test {
 protected:
  void SetUp() override { emulated::counts = {.dry = true}; }
  void TearDown() override { emulated::counts = {}; }

  // Of a step's gathering, forward and backward pass, check and update, after a first one.
  static int64_t Step(const Network& network) {
    v1::ModelSpec spec;
    for (const int64_t units : network.units) {
      v1::LayerSpec& layer = *spec.add_layers();
      layer.mutable_dense()->set_units(units);
      layer.mutable_dense()->set_activation("relu");
    }
    spec.add_layers()->mutable_dense()->set_units(10);
    Violations violations;
    const ModelPlan plan = PlanModel(spec, Shape{784}, violations);
    const std::unique_ptr<Device> device = MakeTestDevice();
    Arrays arrays(device.get());
    const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
    const std::unique_ptr<Model> model =
        Model::Create(device.get(), plan, loss, DType::kF32, network.batch, {}, 1, network.precision).value();
    const Tensor pixels = arrays.Zeros({network.batch, 784}, DType::kU8),
                 x = arrays.Zeros({network.batch, 784}, DType::kF32);
    const Tensor labels = arrays.Zeros({network.batch}, DType::kI32), y = arrays.Zeros({network.batch}, DType::kI32);
    const Tensor indices = arrays.Zeros({network.batch}, DType::kI64);
    const Tensor gradient = arrays.Zeros(model->parameters().shape, DType::kF32);
    const Tensor stats = arrays.Zeros({model->stats_width()}, DType::kF64), flag = arrays.Zeros({1}, DType::kF64);
    const auto step = [&] {
      device->GatherRows(pixels, indices, {}, x);
      device->GatherLabels(labels, indices, y);
      model->ForwardBackward({.training = true}, {x, y, network.batch}, 1.0, gradient, stats, nullptr);
      device->CheckFinite(gradient, flag);
      device->ApplyUpdate(UpdateRule::kSgd, {}, model->parameters(), gradient, {});
    };
    step();
    const int64_t before = emulated::counts.enqueued;
    step();
    return emulated::counts.enqueued - before;
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

}  // namespace
}  // namespace lockstep::conformance
