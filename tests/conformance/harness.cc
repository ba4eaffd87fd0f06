// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/harness.h"

#include <gtest/gtest.h>

#include <cfloat>

#include "common/rng.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep::conformance {

namespace {

constexpr uint64_t kSeed = 11;

template <typename Message>
Message Parse(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << json << status.ToString();
  return message;
}

const char kMse[] = R"({"mean_squared_error": {}})";

}  // namespace

// A dense layer in front gives every layer under test a gradient to pass on.
const std::vector<Row>& LayerRows() {
  static const std::vector<Row> rows{
      {"dense", "plain", R"([{"dense": {"units": 5}}])", kMse, Shape{7}},
      {"dense", "no_bias", R"([{"dense": {"units": 5, "use_bias": false}}, {"dense": {"units": 2}}])", kMse, Shape{4}},
      {"dense", "relu", R"([{"dense": {"units": 9, "activation": "relu"}}, {"dense": {"units": 3}}])", kMse, Shape{6}},
      {"dense", "he", R"([{"dense": {"units": 9, "kernel_initializer": {"he_uniform": {}}}}])", kMse, Shape{3}},
      {"relu", "", R"([{"dense": {"units": 8}}, {"relu": {}}, {"dense": {"units": 2}}])", kMse, Shape{5}},
      {"relu", "first", R"([{"relu": {}}, {"dense": {"units": 2}}])", kMse, Shape{5}},
      {"sigmoid", "", R"([{"dense": {"units": 8}}, {"sigmoid": {}}, {"dense": {"units": 2}}])", kMse, Shape{5}},
      {"sigmoid", "twice", R"([{"dense": {"units": 4}}, {"sigmoid": {}}, {"sigmoid": {}}])", kMse, Shape{5}},
      {"tanh", "", R"([{"dense": {"units": 8}}, {"tanh": {}}, {"dense": {"units": 2}}])", kMse, Shape{5}},
      {"softmax", "inside", R"([{"dense": {"units": 6}}, {"softmax": {}}, {"dense": {"units": 2}}])", kMse, Shape{5}},
      {"softmax", "last", R"([{"dense": {"units": 6}}, {"softmax": {}}])", kMse, Shape{5}},
      {"dropout", "", R"([{"dense": {"units": 9}}, {"dropout": {"rate": 0.4}}, {"dense": {"units": 2}}])", kMse,
       Shape{5}},
      {"flatten", "first", R"([{"flatten": {}}, {"dense": {"units": 2}}])", kMse, Shape{2, 3}},
      {"flatten", "inside", R"([{"dense": {"units": 4}}, {"flatten": {}}, {"dense": {"units": 2}}])", kMse, Shape{3}},
  };
  return rows;
}

const std::vector<Row>& LossRows() {
  static const std::vector<Row> rows{
      {"sparse_categorical_crossentropy", "logits", R"([{"dense": {"units": 4}}])",
       R"({"sparse_categorical_crossentropy": {"from_logits": true}})", Shape{5}},
      {"sparse_categorical_crossentropy", "softmax", R"([{"dense": {"units": 4, "activation": "softmax"}}])",
       R"({"sparse_categorical_crossentropy": {}})", Shape{5}},
      {"sparse_categorical_crossentropy", "probabilities",
       R"([{"dense": {"units": 4, "activation": "softmax"}}, {"dropout": {"rate": 0}}])",
       R"({"sparse_categorical_crossentropy": {}})", Shape{5}},
      {"mean_squared_error", "", R"([{"dense": {"units": 3}}])", kMse, Shape{5}},
  };
  return rows;
}

Bench::Bench(const Row& row, DType type) : row_(row), type_(type), device_(MakeCpuDevice(1)) {
  v1::ModelSpec spec = Parse<v1::ModelSpec>(R"({"layers": )" + row.layers + "}");
  const auto loss = Parse<v1::LossSpec>(row.loss);
  Violations violations;
  const ModelPlan plan = PlanModel(spec, row.input, violations);
  EXPECT_TRUE(violations.empty());
  model_ = Model::Create(device_.get(), plan, loss, type, row.rows).value();
  model_->Initialize(kSeed);
  // Every parameter moves, biases too.
  const RngStream noise{kSeed, RngPurpose::kSynthetic, 1};
  for (const ParameterView& view : model_->parameter_views()) {
    for (int64_t i = 0; i < view.shape.elements(); ++i) {
      const auto index = static_cast<uint64_t>(view.offset + i);
      set_parameter(view.offset + i, parameter(view.offset + i) + 0.2 * (noise.Uniform(index) - 0.5));
    }
  }
  inputs_.resize(static_cast<size_t>(row.rows * row.input.elements()));
  const RngStream values{kSeed, RngPurpose::kSynthetic, 2};
  for (size_t i = 0; i < inputs_.size(); ++i) inputs_[i] = 2.0 * values.Uniform(i) - 1.0;

  classification_ = model_->loss().classification();
  target_width_ = classification_ ? 1 : plan.output.elements();
  std::vector<int64_t> dims{row.rows};
  dims.insert(dims.end(), row.input.dims().begin(), row.input.dims().end());
  input_ = Take(Shape(dims), type);
  gradient_ = Take(Shape{elements()}, type);
  stats_ = Take(Shape{model_->stats_width()}, DType::kF64);
  targets_ = classification_ ? Take(Shape{row.rows}, DType::kI32) : Take(Shape{row.rows, target_width_}, type);
  const RngStream targets{kSeed, RngPurpose::kSynthetic, 3};
  for (int64_t i = 0; i < targets_.elements(); ++i) {
    const auto index = static_cast<uint64_t>(i);
    if (classification_) {
      targets_.as<int32_t>()[i] = static_cast<int32_t>(targets.Word(index) % plan.output.elements());
    } else if (type == DType::kF64) {
      targets_.as<double>()[i] = targets.Uniform(index);
    } else {
      targets_.as<float>()[i] = targets.Uniform(index);
    }
  }
}

double Bench::parameter(int64_t i) {
  const Tensor p = model_->parameters();
  return type_ == DType::kF64 ? p.as<double>()[i] : p.as<float>()[i];
}

void Bench::set_parameter(int64_t i, double value) {
  const Tensor p = model_->parameters();
  // Rounded to float in both, so that both precisions compute with the same numbers.
  if (type_ == DType::kF64) {
    p.as<double>()[i] = static_cast<float>(value);
  } else {
    p.as<float>()[i] = static_cast<float>(value);
  }
}

double Bench::Loss(int64_t first, int64_t end, std::vector<double>* gradient) {
  const int64_t rows = end - first, width = row_.input.elements();
  for (int64_t i = 0; i < rows * width; ++i) {
    const double v = inputs_[static_cast<size_t>(first * width + i)];
    if (type_ == DType::kF64) {
      input_.as<double>()[i] = v;
    } else {
      input_.as<float>()[i] = static_cast<float>(v);
    }
  }
  std::vector<int64_t> dims{rows};
  dims.insert(dims.end(), row_.input.dims().begin(), row_.input.dims().end());
  Tensor targets = targets_;
  targets.data = targets_.as<std::byte>() + static_cast<size_t>(first * target_width_) * SizeOf(targets_.type);
  targets.shape = classification_ ? Shape{rows} : Shape{rows, target_width_};
  const Batch batch{input_.Reshaped(Shape(dims)), targets, rows};
  const StepContext context{.device = device_.get(), .training = true, .seed = kSeed, .step = 5, .first_row = first};
  const double scale = 1.0 / static_cast<double>(row_.rows);
  device_->Fill(stats_, 0);
  model_->ForwardBackward(context, batch, scale, gradient_, stats_, nullptr);
  if (gradient != nullptr) {
    gradient->resize(static_cast<size_t>(elements()));
    for (int64_t i = 0; i < elements(); ++i) {
      (*gradient)[static_cast<size_t>(i)] = type_ == DType::kF64 ? gradient_.as<double>()[i] : gradient_.as<float>()[i];
    }
  }
  return stats_.as<double>()[0] * scale;
}

Tensor Bench::Take(const Shape& shape, DType type) {
  Tensor t{nullptr, shape, type};
  buffers_.push_back(device_->Allocate(t.bytes()).value());
  t.data = buffers_.back()->data();
  return t;
}

double Tolerance(DType type, int64_t reduction_length) {
  // Exponentials and divisions cost a few units each.
  constexpr double kFunctions = 16;
  const double roundoff = type == DType::kF64 ? DBL_EPSILON / 2 : FLT_EPSILON / 2;
  return roundoff * (kFunctions + static_cast<double>(reduction_length));
}

}  // namespace lockstep::conformance
