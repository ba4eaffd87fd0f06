// SPDX-License-Identifier: Apache-2.0
// A small network's step as one operation, against the same layer by layer in double.
#include "worker/device/dense_chain.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {
namespace {

struct Network {
  std::string name;
  int64_t inputs;
  std::vector<int64_t> units;
  int64_t rows;
  std::string activation = "relu";
  std::string loss = "sparse_categorical_crossentropy { from_logits: true }";
  bool use_bias = true;
  std::string metrics = "accuracy {}";
};

// For messages.
void PrintTo(const Network& network, std::ostream* to) { *to << network.name; }

bool HasLabels(const Network& network) { return network.loss.starts_with("sparse"); }

ModelPlan PlanOf(const Network& network) {
  v1::ModelSpec spec;
  for (size_t i = 0; i < network.units.size(); ++i) {
    v1::DenseLayer& dense = *spec.add_layers()->mutable_dense();
    dense.set_units(network.units[i]);
    dense.set_use_bias(network.use_bias);
    if (i + 1 < network.units.size()) dense.set_activation(network.activation);
  }
  Violations violations;
  return PlanModel(spec, Shape{network.inputs}, violations);
}

// One network with what it is given, and what a step leaves behind.
struct Subject {
  Subject(const Network& network, Device* device, DType type) : arrays(device) {
    const ModelPlan plan = PlanOf(network);
    MetricsPlan metrics{.outputs = network.units.back()};
    metrics.metrics = {FromText<v1::MetricSpec>(network.metrics)};
    model = Model::Create(device, plan, FromText<v1::LossSpec>(network.loss), type, network.rows, metrics).value();
    batch.rows = network.rows;
    batch.inputs = arrays.Random({network.rows, network.inputs}, type, 1);
    batch.targets = HasLabels(network) ? arrays.Labels(network.rows, network.units.back())
                                       : arrays.Random({network.rows, network.units.back()}, type, 2);
    const Tensor drawn = arrays.Random(model->parameters().shape, DType::kF32, 3);
    for (const ParameterView& view : model->parameter_views()) {
      // As large as they are while training.
      const double scale = 1 / std::sqrt(static_cast<double>(view.shape[0]));
      for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
        Arrays::Set(model->parameters(), i, static_cast<float>(Arrays::Get(drawn, i) * scale));
      }
    }
    gradient = arrays.Random(model->parameters().shape, type, 4);
    stats = arrays.Zeros({model->stats_width()}, DType::kF64);
  }

  void Step() { model->ForwardBackward({.training = true}, batch, kScale, gradient, stats, nullptr); }

  static constexpr double kScale = 0.125;
  Arrays arrays;
  std::unique_ptr<Model> model;
  Batch batch;
  Tensor gradient;
  Tensor stats;
};

struct LayerCounter final : NodeObserver {
  explicit LayerCounter(bool each_layer) : each(each_layer) {}
  void Done(Pass, int) override { ++layers; }
  bool wants_each_layer() const override { return each; }
  bool each;
  int layers = 0;
};

class DenseChainTest : public testing::TestWithParam<Network> {};

TEST_P(DenseChainTest, AgreesWithItsLayersInDouble) {
  const std::unique_ptr<Device> device = MakeTestDevice();
  Subject chain(GetParam(), device.get(), DType::kF32), layers(GetParam(), device.get(), DType::kF64);
  chain.Step();
  layers.Step();
  const double tolerance = Tolerance(DType::kF32, GetParam().inputs);
  for (int i = 0; i < chain.model->stats_width(); ++i) {
    const double want = Arrays::Get(layers.stats, i);
    EXPECT_LE(RelativeError(Arrays::Get(chain.stats, i), want, std::max(1.0, std::abs(want))), tolerance)
        << "sum " << i;
  }
  double largest = 0;
  for (int64_t i = 0; i < layers.gradient.elements(); ++i) {
    largest = std::max(largest, std::abs(Arrays::Get(layers.gradient, i)));
  }
  ASSERT_GT(largest, 0);
  for (int64_t i = 0; i < layers.gradient.elements(); ++i) {
    // Zeros between the tensors too.
    EXPECT_LE(RelativeError(Arrays::Get(chain.gradient, i), Arrays::Get(layers.gradient, i), largest), tolerance) << i;
  }
}

TEST_P(DenseChainTest, IsTakenApartForWhoWantsEachLayer) {
  const std::unique_ptr<Device> device = MakeTestDevice();
  Subject subject(GetParam(), device.get(), DType::kF32);
  for (const bool each : {false, true}) {
    LayerCounter counter(each);
    subject.model->set_observer(&counter);
    subject.Step();
    const int passes = each ? 2 * static_cast<int>(GetParam().units.size()) + 1 : 0;
    EXPECT_EQ(counter.layers, passes);
  }
}

TEST_P(DenseChainTest, LeavesTheSameBitsAgain) {
  const std::unique_ptr<Device> device = MakeTestDevice();
  Subject one(GetParam(), device.get(), DType::kF32), two(GetParam(), device.get(), DType::kF32);
  one.Step();
  two.Step();
  EXPECT_TRUE(SameBits(one.gradient, two.gradient));
  EXPECT_TRUE(SameBits(one.stats, two.stats));
}

INSTANTIATE_TEST_SUITE_P(
    Networks, DenseChainTest,
    testing::Values(
        Network{"Lecture", 784, {16, 16, 10}, 32}, Network{"Wide", 784, {128, 10}, 32},
        Network{"NoMultiples", 37, {19, 7, 5}, 13}, Network{"OneRow", 5, {3, 2}, 1},
        Network{"ManyRows", 20, {24, 10}, 128, "tanh"}, Network{"FourLayers", 12, {16, 9, 8, 4}, 30, "sigmoid"},
        Network{"NoBias", 33, {17, 6}, 21, "elu", "sparse_categorical_crossentropy { from_logits: true }", false},
        Network{"Smoothed",
                21,
                {18, 5},
                40,
                "relu",
                "sparse_categorical_crossentropy { from_logits: true label_smoothing: 0.1 "
                "class_weights: [1, 0.5, 2, 0.25, 3] }"},
        Network{"Distributions", 21, {18, 5}, 70, "softplus", "categorical_crossentropy { from_logits: true }"},
        Network{"OtherMetric",
                21,
                {18, 5},
                40,
                "leaky_relu",
                "sparse_categorical_crossentropy { from_logits: true }",
                true,
                "confusion_matrix {}"}),
    [](const auto& p) { return p.param.name; });

// What a chain is made of, without memory.
struct Parts {
  DenseChain Chain(int64_t rows, int64_t inputs, const std::vector<int64_t>& units,
                   ActivationArgs activation = {.kind = Activation::kRelu}) {
    layers.clear();
    int64_t before = inputs;
    for (const int64_t n : units) {
      layers.push_back({.kernel = {nullptr, Shape{before, n}, DType::kF32}, .bias = {}, .activation = activation});
      before = n;
    }
    layers.back().activation = last;
    return {.x = {nullptr, Shape{rows, inputs}, type}, .layers = layers};
  }
  std::vector<ChainLayer> layers;
  ActivationArgs last;
  DType type = DType::kF32;
};

TEST(DenseChain, IsTakenWhereItIsSmallAndOfFloats) {
  const std::unique_ptr<Device> device = MakeTestDevice();
  Parts parts;
  EXPECT_TRUE(device->TakesDenseChain(parts.Chain(32, 784, {128, 10})));
  EXPECT_TRUE(device->TakesDenseChain(parts.Chain(128, 784, {16, 16, 10})));
  // No layer to begin with, too many, too many rows, too wide for a block, too much for each block, too much in all.
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 784, {10})));
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 784, {16, 16, 16, 16, 10})));
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(129, 784, {16, 10})));
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(128, 784, {128, 10})));
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 16, {128, 128, 10})));
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(8, 65536, {128, 10})));
  // A derivative that needs what was put in.
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 784, {128, 10}, {.kind = Activation::kGelu})));
  parts.last = {.kind = Activation::kRelu};
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 784, {128, 10})));
  parts.last = {};
  parts.type = DType::kF64;
  EXPECT_FALSE(device->TakesDenseChain(parts.Chain(32, 784, {128, 10})));
}

}  // namespace
}  // namespace lockstep::conformance
