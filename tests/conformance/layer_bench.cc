// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/layer_bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {

namespace {

constexpr uint64_t kSeed = 9;
constexpr int64_t kStep = 4;
// Of the model's output.
constexpr int64_t kWidth = 3;

// Puts a layer with weights before the row's layers, which then read "stem" instead of the samples.
std::string Stem(const Shape& shape) {
  if (shape.rank() == 1) return absl::StrCat("layers { name: 'stem' dense { units: ", shape[0], " } }");
  if (shape.rank() == 3) {
    return absl::StrCat("layers { name: 'stem' conv2d { filters: ", shape[0], " kernel_size: 1 } }");
  }
  return absl::StrCat("layers { flatten {} } layers { dense { units: ", shape.elements(),
                      " } } layers { name: 'stem' reshape { target_shape: [", absl::StrJoin(shape.dims(), ", "),
                      "] } }");
}

std::string Surroundings(const LayerRow& row, Form form) {
  const std::string head = absl::StrCat(" dense { units: ", kWidth, " } } ");
  if (form == Form::kFirst) return "layers { flatten {} } layers {" + head;
  if (form == Form::kChain) return "layers { elu {} } layers { flatten {} } layers {" + head;
  const bool residual = row.input == row.output;
  return absl::StrCat(residual ? "layers { name: 'top' add {} inputs: 'subject' inputs: 'stem' } "
                               : "layers { name: 'top' linear {} inputs: 'subject' } ",
                      "layers { name: 'flat' flatten {} inputs: 'top' } ",
                      "layers { name: 'side' sigmoid {} inputs: 'flat' } ",
                      "layers { name: 'sum' add {} inputs: 'flat' inputs: 'side' } ",
                      "layers { concatenate {} inputs: 'sum' inputs: 'flat' } layers {", head);
}

void ReadStem(v1::LayerSpec& layer) {
  for (std::string& name : *layer.mutable_inputs()) {
    if (name == "input") name = "stem";
  }
}

Vars Leaves(Tape& tape, const Tensor& t) {
  Vars vars;
  for (int64_t i = 0; i < t.elements(); ++i) vars.push_back(tape.Leaf(Arrays::Get(t, i)));
  return vars;
}

std::vector<double> DerivativesBy(const Tape& tape, const Vars& vars) {
  std::vector<double> out;
  for (const Var& v : vars) out.push_back(tape.Of(v));
  return out;
}

// Must not be negative.
bool IsVariance(const std::string& parameter) { return parameter.ends_with("moving_variance"); }

void Put(const Tensor& t, const std::vector<double>& values) {
  for (int64_t i = 0; i < t.elements(); ++i) Arrays::Set(t, i, values[static_cast<size_t>(i)]);
}

}  // namespace

v1::ModelSpec SpecOf(const LayerRow& row, Form form) {
  const bool stem = form == Form::kChain || form == Form::kGraph;
  v1::ModelSpec spec = FromText<v1::ModelSpec>((stem ? Stem(row.input) : "") + row.before);
  v1::LayerSpec& subject = *spec.add_layers();
  subject = FromText<v1::LayerSpec>(row.layer);
  subject.set_name("subject");
  if (form == Form::kAlone) return spec;
  if (stem && subject.inputs().empty()) subject.add_inputs("stem");
  for (v1::LayerSpec& layer : *spec.mutable_layers()) {
    if (stem) ReadStem(layer);
  }
  spec.MergeFrom(FromText<v1::ModelSpec>(Surroundings(row, form)));
  return spec;
}

ModelPlan PlanRow(const LayerRow& row, Form form) {
  Violations violations;
  ModelPlan plan = PlanModel(SpecOf(row, form), row.input, violations);
  for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << " " << v.description;
  return plan;
}

const LayerPlan& SubjectOf(const ModelPlan& plan) {
  return *std::ranges::find_if(plan.layers, [](const LayerPlan& layer) { return layer.name == "subject"; });
}

std::vector<double> RowInputs(const LayerRow& row, const Shape& shape, int64_t rows, uint64_t stream) {
  const RngStream random{.seed = 77, .purpose = RngPurpose::kSynthetic, .stream = stream};
  const int64_t width = shape.elements();
  std::vector<int64_t> order(static_cast<size_t>(width));
  std::vector<double> values;
  for (int64_t i = 0; i < rows; ++i) {
    std::iota(order.begin(), order.end(), 0);
    for (int64_t j = width - 1; j > 0; --j) std::swap(order[j], order[random.Word(i * width + j) % (j + 1)]);
    for (int64_t j = 0; j < width; ++j) {
      double v = 2.0 * random.Uniform(static_cast<uint64_t>(i * width + j)) - 1.0;
      // Evenly spaced: no two of a sample are nearer than 2 reach / width.
      if (row.compares_inputs) v = (2.0 * static_cast<double>(order[j]) + 1.0) / static_cast<double>(width) - 1.0;
      v *= row.reach;
      for (const double kink : row.kinks) {
        if (std::abs(v - kink) < kMargin) v = kink + (v < kink ? -kMargin : kMargin);
      }
      values.push_back(static_cast<float>(v));
    }
  }
  return values;
}

Subject::Subject(const LayerRow& of, DType type, const TestDevice& on, int64_t samples)
    : row(of), rows(samples), device(on.make()), arrays(device.get()) {
  const ModelPlan model = PlanRow(row, Form::kAlone);
  plan = SubjectOf(model);
  frozen = plan.spec.has_trainable() && !plan.spec.trainable();
  layer = MakeLayer(plan);
  for (size_t i = 0; i < plan.inputs.size(); ++i) {
    x.push_back(arrays.Zeros(Batched(rows, plan.inputs[i]), type));
    Put(x.back(), RowInputs(row, plan.inputs[i], rows, 20 + i));
    dx.push_back(arrays.Zeros(x.back().shape, type));
  }
  const int64_t scratch = layer->scratch_size(rows);
  if (scratch > 0) context.scratch = arrays.Zeros({scratch}, DType::kF64);
  y = arrays.Zeros(Batched(rows, plan.output), type);
  dy = arrays.Random(y.shape, type, 2);
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    parameters.push_back(arrays.Random(plan.parameters[i].shape, type, 3 + i));
    for (int64_t j = 0; IsVariance(plan.parameters[i].name) && j < parameters[i].elements(); ++j) {
      Arrays::Set(parameters[i], j, std::abs(Arrays::Get(parameters[i], j)));
    }
    gradients.push_back(arrays.Zeros(plan.parameters[i].shape, type));
  }
  context.device = device.get();
  context.training = true;
  context.seed = kSeed;
  context.step = kStep;
  context.first_row = 16;
  context.layer_index = 2;
}

void Subject::Forward() {
  const int64_t width = layer->batch_sums_width();
  if (width > 0) layer->Sums(context, x[0], {context.scratch.data, Shape{2, width / 2}, DType::kF64});
  layer->Forward(context, parameters, x, y);
}

void Subject::Backward() {
  const int64_t width = layer->batch_sums_width();
  if (width > 0) {
    layer->GradientSums(context, x[0], dy, {context.scratch.as<double>() + width, Shape{2, width / 2}, DType::kF64});
  }
  layer->Backward(context, parameters, x, y, dy, gradients, dx);
}

double Subject::Objective() {
  Forward();
  double sum = 0;
  for (int64_t i = 0; i < y.elements(); ++i) sum += Arrays::Get(y, i) * Arrays::Get(dy, i);
  return sum;
}

Subject::Expected Subject::Reference() const {
  Tape tape;
  std::vector<Vars> vars, inputs;
  for (const Tensor& t : parameters) vars.push_back(Leaves(tape, t));
  for (const Tensor& t : x) inputs.push_back(Leaves(tape, t));
  const ReferenceCall call{kBatch,       context.training,  context.seed,
                           context.step, context.first_row, context.layer_index};
  const Vars out = ReferenceLayer(plan, call, vars, inputs);
  Expected expected;
  std::vector<double> seeds;
  for (size_t i = 0; i < out.size(); ++i) {
    expected.y.push_back(out[i].value);
    seeds.push_back(Arrays::Get(dy, static_cast<int64_t>(i)));
  }
  tape.Differentiate(out, seeds);
  for (const Vars& v : inputs) expected.dx.push_back(DerivativesBy(tape, v));
  for (const Vars& v : vars) expected.gradients.push_back(DerivativesBy(tape, v));
  return expected;
}

namespace {

// Terms are products of numbers below 1.05, or of the row's reach.
void Compare(const Subject& subject, const Tensor& got, const std::vector<double>& expected, int64_t reduction,
             const std::string& what) {
  ASSERT_EQ(got.elements(), static_cast<int64_t>(expected.size())) << what;
  const double scale = subject.row.reach * static_cast<double>(reduction);
  // Of the rounded precisions BF16 is the coarsest.
  const bool mixed = got.type == DType::kF32 && subject.context.precision != ProductPrecision::kFloat;
  const double tolerance = mixed ? Bf16Tolerance(reduction) : Tolerance(got.type, reduction);
  for (int64_t i = 0; i < got.elements(); ++i) {
    EXPECT_LE(RelativeError(Arrays::Get(got, i), expected[static_cast<size_t>(i)], scale), tolerance)
        << what << " at " << i << ": " << Arrays::Get(got, i) << " instead of " << expected[static_cast<size_t>(i)];
  }
}

}  // namespace

void Subject::CheckOutput(const std::vector<double>& expected) const {
  Compare(*this, y, expected, row.reduction, "y");
}

void Subject::CheckAll(const Expected& expected) const {
  CheckOutput(expected.y);
  ASSERT_EQ(dx.size(), expected.dx.size());
  ASSERT_EQ(gradients.size(), expected.gradients.size());
  for (size_t i = 0; i < dx.size(); ++i) {
    Compare(*this, dx[i], expected.dx[i], std::max(row.reduction, y.elements() / rows), "dx");
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (IsMoving(i)) continue;
    Compare(*this, gradients[i], expected.gradients[i], std::max(row.reduction, y.elements()), plan.parameters[i].name);
  }
}

ModelBench::ModelBench(const LayerRow& of, Form form, DType type, int shards)
    : row(of), device(MakeTestDevice()), arrays(device.get()), plan(PlanRow(row, form)) {
  model = Model::Create(device.get(), plan, FromText<v1::LossSpec>("mean_squared_error {}"), type, kBatch, {}, shards)
              .value();
  model->Initialize(kSeed);
  // Biases and the like move too. Rounded, so that both precisions have the same numbers.
  const RngStream noise{kSeed, RngPurpose::kSynthetic, 1};
  for (const ParameterView& view : model->parameter_views()) {
    for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
      double v = Arrays::Get(model->parameters(), i) + 0.2 * (noise.Uniform(static_cast<uint64_t>(i)) - 0.5);
      if (IsVariance(view.name)) v = std::abs(v);
      Arrays::Set(model->parameters(), i, static_cast<float>(v));
    }
  }
  samples = arrays.Zeros(Batched(kBatch, row.input), type);
  Put(samples, RowInputs(row, row.input, kBatch, 20));
  targets = arrays.Random({kBatch, kWidth}, type, 5);
  gradient = arrays.Zeros(model->parameters().shape, type);
  stats = arrays.Zeros({model->stats_width()}, DType::kF64);
}

StepContext ModelBench::Context(int64_t first) const {
  return {
      .device = device.get(), .training = true, .seed = kSeed, .step = kStep, .first_row = first, .batch_rows = kBatch};
}

Batch ModelBench::Part(int64_t first, int64_t end) const {
  return {RowsOf(samples, first, end - first), RowsOf(targets, first, end - first), end - first};
}

double ModelBench::Loss() { return model->needs_whole_batch() ? LossTogether({0, kBatch}) : LossOf(0, kBatch); }

double ModelBench::LossOf(int64_t first, int64_t end) {
  device->Fill(stats, 0);
  model->ForwardBackward(Context(first), Part(first, end), 1.0 / kBatch, gradient, stats, nullptr);
  return stats.as<double>()[0] / kBatch;
}

namespace {

// One rank: adds its shards one after another.
class OwnSum final : public ShardSum {
 public:
  absl::Status Sum(std::span<const double> shards, std::span<double> total) override {
    std::ranges::fill(total, 0.0);
    for (size_t i = 0; i < shards.size(); ++i) total[i % total.size()] += shards[i];
    return absl::OkStatus();
  }
};

}  // namespace

double ModelBench::LossTogether(const std::vector<int64_t>& bounds) {
  device->Fill(stats, 0);
  std::vector<ShardTask> tasks;
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    tasks.push_back({Part(bounds[i], bounds[i + 1]), bounds[i], arrays.Zeros(gradient.shape, gradient.type), stats});
  }
  OwnSum sum;
  EXPECT_TRUE(model->ForwardBackwardTogether(Context(0), tasks, 1.0 / kBatch, sum).ok());
  device->Fill(gradient, 0);
  for (const ShardTask& task : tasks) device->Add(gradient, task.gradient, gradient);
  return stats.as<double>()[0] / kBatch;
}

ModelBench::Expected ModelBench::Reference() const {
  Tape tape;
  std::vector<Vars> vars;
  std::vector<int64_t> offsets;
  for (const LayerPlan& layer : plan.layers) {
    for (const ParameterPlan& p : layer.parameters) {
      const auto view = std::ranges::find(model->parameter_views(), p.name, &ParameterView::name);
      vars.emplace_back();
      offsets.push_back(view->offset);
      for (int64_t i = 0; i < view->shape.elements(); ++i) {
        // What is not trained has no gradient.
        const double v = Arrays::Get(model->parameters(), view->offset + i);
        vars.back().push_back(view->trainable ? tape.Leaf(v) : Var(v));
      }
    }
  }
  Vars inputs;
  for (int64_t i = 0; i < samples.elements(); ++i) inputs.push_back(Arrays::Get(samples, i));
  const Vars output =
      ReferenceModel(plan, {.rows = kBatch, .training = true, .seed = kSeed, .step = kStep}, vars, inputs);
  Var loss;
  for (size_t i = 0; i < output.size(); ++i) {
    const Var difference = output[i] - Arrays::Get(targets, static_cast<int64_t>(i));
    loss = loss + difference * difference / (kWidth * kBatch);
  }
  const double one = 1;
  tape.Differentiate(std::span(&loss, 1), std::span(&one, 1));
  Expected expected{loss.value, std::vector<double>(static_cast<size_t>(gradient.elements()), 0.0)};
  for (size_t i = 0; i < vars.size(); ++i) {
    for (size_t j = 0; j < vars[i].size(); ++j) {
      expected.gradient[static_cast<size_t>(offsets[i]) + j] = tape.Of(vars[i][j]);
    }
  }
  return expected;
}

int64_t ModelBench::reduction() const {
  return kBatch * (row.input.elements() + row.reduction + 2 * row.output.elements());
}

}  // namespace lockstep::conformance
