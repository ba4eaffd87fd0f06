// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/model.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/tolerance.h"

namespace lockstep {
namespace {

using conformance::Arrays;
using conformance::FromText;
using conformance::RowsOf;
using conformance::SameBits;

constexpr int64_t kRows = 8;
constexpr char kLogits[] = "sparse_categorical_crossentropy { from_logits: true }";
constexpr char kProbabilities[] = "sparse_categorical_crossentropy {}";

// A model with a batch, its gradient and its statistics.
struct Subject {
  Subject(const std::string& layers, const Shape& input, const std::string& loss, DType type = DType::kF32)
      : device(MakeCpuDevice(1)), arrays(device.get()) {
    Violations violations;
    plan = PlanModel(FromText<v1::ModelSpec>(layers), input, violations);
    EXPECT_TRUE(violations.empty());
    model = Model::Create(device.get(), plan, FromText<v1::LossSpec>(loss), type, kRows).value();
    model->Initialize(5);
    batch.inputs = arrays.Random(conformance::Batched(kRows, input), type, 1);
    const int64_t width = plan.output.elements();
    batch.targets = model->loss().classification() ? arrays.Labels(kRows, width)
                                                   : arrays.Random(conformance::Batched(kRows, plan.output), type, 2);
    batch.rows = kRows;
    gradient = arrays.Zeros(model->parameters().shape, type);
    stats = arrays.Zeros({model->stats_width()}, DType::kF64);
    context = {.device = device.get(), .training = true, .seed = 3, .step = 7, .first_row = 0};
  }
  double Step() {
    device->Fill(stats, 0);
    model->ForwardBackward(context, batch, 1.0 / kRows, gradient, stats, nullptr);
    return stats.as<double>()[0];
  }
  double Evaluate() {
    device->Fill(stats, 0);
    model->Evaluate(batch, stats);
    return stats.as<double>()[0];
  }
  Tensor Parameter(size_t i) {
    const ParameterView& view = model->parameter_views()[i];
    return {model->parameters().as<char>() + static_cast<size_t>(view.offset) * SizeOf(gradient.type), view.shape,
            gradient.type};
  }

  std::unique_ptr<Device> device;
  Arrays arrays;
  ModelPlan plan;
  std::unique_ptr<Model> model;
  Batch batch;
  Tensor gradient, stats;
  StepContext context;
};

// Forward and backward layer by layer, with memory of its own for each: what the model shares or
// leaves out must not show.
void ComputeUnfused(Subject& s, const std::string& loss_text, Tensor gradient, Tensor stats) {
  std::vector<Tensor> values{s.batch.inputs}, gradients{s.arrays.Zeros(s.batch.inputs.shape, gradient.type)};
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<std::vector<Tensor>> parameters, parameter_gradients;
  size_t next = 0;
  for (size_t i = 0; i < s.plan.layers.size(); ++i) {
    const LayerPlan& plan = s.plan.layers[i];
    layers.push_back(MakeLayer(plan));
    parameters.emplace_back();
    parameter_gradients.emplace_back();
    for (size_t p = 0; p < plan.parameters.size(); ++p, ++next) {
      parameters.back().push_back(s.Parameter(next));
      const ParameterView& view = s.model->parameter_views()[next];
      parameter_gradients.back().push_back(
          {gradient.as<char>() + static_cast<size_t>(view.offset) * SizeOf(gradient.type), view.shape, gradient.type});
    }
    values.push_back(s.arrays.Zeros(conformance::Batched(kRows, plan.output), gradient.type));
    gradients.push_back(s.arrays.Zeros(values.back().shape, gradient.type));
    LayerContext context{s.context};
    context.layer_index = static_cast<int>(i);
    layers[i]->Forward(context, parameters[i], std::span(&values[i], 1), values[i + 1]);
  }
  MakeLoss(FromText<v1::LossSpec>(loss_text))
      ->Compute(*s.device, values.back(), s.batch.targets, 1.0 / kRows, gradients.back(), stats);
  for (size_t i = layers.size(); i-- > 0;) {
    LayerContext context{s.context};
    context.layer_index = static_cast<int>(i);
    layers[i]->Backward(context, parameters[i], std::span(&values[i], 1), values[i + 1], gradients[i + 1],
                        parameter_gradients[i], std::span(&gradients[i], 1));
  }
}

struct Net {
  std::string layers;
  Shape input;
  std::string loss;
};

class ModelTest : public testing::TestWithParam<Net> {};

TEST_P(ModelTest, HasTheBitsOfLayerByLayer) {
  const auto& [layers, input, loss] = GetParam();
  Subject s(layers, input, loss);
  s.Step();
  const Tensor gradient = s.arrays.Zeros(s.gradient.shape, DType::kF32),
               stats = s.arrays.Zeros(s.stats.shape, DType::kF64);
  ComputeUnfused(s, loss, gradient, stats);
  EXPECT_TRUE(SameBits(s.gradient, gradient));
  EXPECT_TRUE(SameBits(s.stats, stats));
}

TEST_P(ModelTest, GradientAgreesWithFiniteDifferences) {
  const auto& [layers, input, loss] = GetParam();
  Subject s(layers, input, loss, DType::kF64);
  s.Step();
  const Tensor gradient = s.arrays.Zeros(s.gradient.shape, DType::kF64);
  s.device->CopyFromHost(gradient.data, s.gradient.data, gradient.bytes());
  const double h = conformance::kDifferenceStep;
  for (size_t p = 0; p < s.model->parameter_views().size(); ++p) {
    const Tensor w = s.Parameter(p);
    for (int64_t i = 0; i < w.elements(); i += 3) {
      const double at = w.as<double>()[i];
      w.as<double>()[i] = at + h;
      const double above = s.Step();
      w.as<double>()[i] = at - h;
      const double below = s.Step();
      w.as<double>()[i] = at;
      const double difference = (above - below) / (2 * h) / kRows;
      EXPECT_LE(conformance::RelativeError(difference, Arrays::Get(gradient, s.model->parameter_views()[p].offset + i)),
                conformance::DifferenceTolerance(kRows * s.plan.output.elements()))
          << s.model->parameter_views()[p].name << " " << i;
    }
  }
}

// A second step, and one after an evaluation, find nothing left over.
TEST_P(ModelTest, StepsLeaveNothingBehind) {
  const auto& [layers, input, loss] = GetParam();
  Subject s(layers, input, loss);
  s.Step();
  const Tensor first = s.arrays.Zeros(s.gradient.shape, DType::kF32);
  s.device->CopyFromHost(first.data, s.gradient.data, first.bytes());
  s.Evaluate();
  s.device->Fill(s.gradient, NAN);
  s.Step();
  EXPECT_TRUE(SameBits(s.gradient, first)) << "the gradient, padding included, must be overwritten";
}

INSTANTIATE_TEST_SUITE_P(
    Nets, ModelTest,
    testing::Values(
        Net{"layers { dense { units: 16 activation: 'sigmoid' } } layers { dense { units: 10 } }", {20}, kLogits},
        Net{"layers { flatten {} } layers { dense { units: 7 } } layers { tanh {} } layers { dense { units: 3 } }",
            {3, 4},
            kLogits},
        Net{"layers { dense { units: 6 } } layers { dropout { rate: 0.3 } } layers { tanh {} } "
            "layers { dense { units: 4 use_bias: false } }",
            {9},
            kLogits},
        Net{"layers { dense { units: 5 activation: 'tanh' } } layers { sigmoid {} } layers { dense { units: 2 } }",
            {6},
            "mean_squared_error {}"},
        Net{"layers { sigmoid {} } layers { dense { units: 4 } } layers { flatten {} } layers { softmax {} } "
            "layers { dense { units: 3 activation: 'sigmoid' } }",
            {5},
            "mean_squared_error {}"}));

TEST(ModelFusionTest, SoftmaxAndCrossEntropyAreOneStepOnLogits) {
  Subject fused("layers { dense { units: 10 activation: 'softmax' } }", {20}, kProbabilities);
  Subject logits("layers { dense { units: 10 } }", {20}, kLogits);
  EXPECT_EQ(fused.Step(), logits.Step());
  EXPECT_TRUE(SameBits(fused.gradient, logits.gradient));
  EXPECT_EQ(fused.Evaluate(), logits.Evaluate());
  // Probabilities of 1e-7 and less are clamped in the two-step form and are not here.
  fused.device->Fill(fused.model->parameters(), 0);
  fused.Parameter(1).as<float>()[0] = 100;
  fused.device->Fill(fused.batch.targets, 1);
  EXPECT_EQ(fused.Evaluate(), 100.0 * kRows);
}

TEST(ModelFusionTest, ASoftmaxThatIsTheWholeModelTrainsNothing) {
  Subject s("layers { softmax {} }", {4}, kProbabilities);
  EXPECT_GT(s.Step(), 0);
  EXPECT_EQ(s.gradient.elements(), 0);
}

TEST(ModelParametersTest, StartOnLinesWithZerosBetween) {
  Subject s("layers { dense { units: 5 } } layers { dense { units: 3 } }", {7}, kLogits);
  const auto& views = s.model->parameter_views();
  ASSERT_EQ(views.size(), 4u);
  EXPECT_THAT(views[0].name, testing::HasSubstr("/kernel"));
  int64_t end = 0;
  s.device->Fill(s.gradient, NAN);
  s.Step();
  for (const ParameterView& view : views) {
    EXPECT_EQ(view.offset % 16, 0);
    for (int64_t i = end; i < view.offset; ++i) {
      EXPECT_EQ(Arrays::Get(s.model->parameters(), i), 0.0);
      EXPECT_EQ(Arrays::Get(s.gradient, i), 0.0);
    }
    end = view.offset + view.shape.elements();
  }
}

TEST(ModelParametersTest, InitialWeightsAreAFunctionOfSeedAndPlace) {
  const std::string net =
      "layers { dense { units: 30 } } layers { dense { units: 30 kernel_initializer { he_uniform {} } } } "
      "layers { dense { units: 30 kernel_initializer { zeros {} } } }";
  Subject a(net, {30}, kLogits), b(net, {30}, kLogits), d(net, {30}, kLogits, DType::kF64);
  EXPECT_TRUE(SameBits(a.model->parameters(), b.model->parameters()));
  b.model->Initialize(6);
  EXPECT_FALSE(SameBits(a.model->parameters(), b.model->parameters()));
  const auto largest = [](const Tensor& t) {
    double max = 0;
    for (int64_t i = 0; i < t.elements(); ++i) max = std::max(max, std::abs(Arrays::Get(t, i)));
    return max;
  };
  const double limits[] = {std::sqrt(6.0 / 60), 0, std::sqrt(6.0 / 30), 0, 0, 0};
  for (size_t i = 0; i < std::size(limits); ++i) {
    EXPECT_LE(largest(a.Parameter(i)), limits[i] * (1 + 1e-6));
    EXPECT_GE(largest(a.Parameter(i)), limits[i] * 0.98);
    for (int64_t j = 0; j < a.Parameter(i).elements(); ++j) {
      EXPECT_NEAR(Arrays::Get(a.Parameter(i), j), Arrays::Get(d.Parameter(i), j), 1e-6);
    }
  }
}

TEST(ModelStepTest, NoRowsGiveAZeroGradient) {
  Subject s("layers { dense { units: 5 } }", {7}, kLogits);
  s.device->Fill(s.gradient, NAN);
  s.batch.rows = 0;
  EXPECT_EQ(s.Step(), 0);
  EXPECT_EQ(s.Evaluate(), 0);
  for (int64_t i = 0; i < s.gradient.elements(); ++i) EXPECT_EQ(Arrays::Get(s.gradient, i), 0.0);
}

TEST(ModelStepTest, DropoutIsOffInEvaluationAndDrawnAnewEachStep) {
  const std::string tail = "layers { dense { units: 4 } }";
  Subject with("layers { dropout { rate: 0.5 } } " + tail, {50}, kLogits), without(tail, {50}, kLogits);
  EXPECT_EQ(with.Evaluate(), without.Evaluate());
  const double first = with.Step();
  EXPECT_EQ(with.Step(), first);
  ++with.context.step;
  EXPECT_NE(with.Step(), first);
}

// A shard's gradient depends on its place in the batch, not on the largest batch of the rank.
TEST(ModelStepTest, AShardHasTheSameBitsInEveryModelSize) {
  const std::string net =
      "layers { dense { units: 33 activation: 'tanh' } } layers { dropout { rate: 0.2 } } "
      "layers { dense { units: 10 } }";
  Subject large(net, {40}, kLogits), small(net, {40}, kLogits);
  Violations violations;
  small.model = Model::Create(small.device.get(), small.plan, FromText<v1::LossSpec>(kLogits), DType::kF32, 2).value();
  small.model->Initialize(5);
  for (Subject* s : {&large, &small}) {
    s->batch.inputs = RowsOf(s->batch.inputs, 4, 2);
    s->batch.targets = RowsOf(s->batch.targets, 4, 2);
    s->batch.rows = 2;
    s->context.first_row = 4;
    s->Step();
  }
  EXPECT_TRUE(SameBits(large.gradient, small.gradient));
}

TEST(ModelStepTest, ReportsTheSecondsOfForward) {
  Subject s("layers { dense { units: 5 } }", {7}, kLogits);
  double seconds = 1;
  s.model->ForwardBackward(s.context, s.batch, 1, s.gradient, s.stats, &seconds);
  EXPECT_GT(seconds, 1);
}

TEST(ModelMemoryTest, MoreThanTheMachineHasIsRefused) {
  const auto device = MakeCpuDevice(1);
  Violations violations;
  const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>("layers { dense { units: 100 } }"), {10}, violations);
  const auto model = Model::Create(device.get(), plan, FromText<v1::LossSpec>(kLogits), DType::kF32, int64_t{1} << 50);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr("bytes"));
}

}  // namespace
}  // namespace lockstep
