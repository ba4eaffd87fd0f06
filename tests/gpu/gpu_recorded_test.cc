// SPDX-License-Identifier: Apache-2.0
// Steps that a GPU does by itself have the bits of those that go through the host, whatever happens in between.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/gpu/gpu.h"
#include "tests/unit/worker/trainer_fixture.h"
#include "worker/device/step_recorder.h"
#include "worker/nn/model.h"

namespace lockstep {
namespace {

// Every other row of a table.
class SplitDataset final : public Dataset {
 public:
  SplitDataset() : all_(2000), train_(all_.train()) {
    for (int64_t row = 1; row < train_.samples; row += 2) rows_.push_back(row);
    train_.samples = static_cast<int64_t>(rows_.size());
    train_.rows = rows_.data();
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return all_.test(); }
  const Shape& sample_shape() const override { return all_.sample_shape(); }

 private:
  BlobDataset all_;
  std::vector<int64_t> rows_;
  DataTable train_;
};

class GpuRecorded : public TrainerTest {
 protected:
  static TrainOptions Options(v1::JobSpec spec) {
    // Long runs also where the GPU is an emulated one.
    return {.spec = std::move(spec), .run_seconds = 60, .device = MakeGpu};
  }
  // 32 steps an epoch, the last of which is a part one.
  static v1::JobSpec Spec(int epochs, const std::string& changes = "{}") {
    v1::JobSpec spec = BlobSpec(), more;
    const auto status = google::protobuf::util::JsonStringToMessage(changes, &more);
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (more.has_optimizer()) spec.clear_optimizer();
    if (more.has_model()) spec.clear_model();
    spec.MergeFrom(more);
    spec.mutable_training()->set_epochs(epochs);
    spec.mutable_training()->set_digest_interval_steps(20);
    return spec;
  }

  // What the runs say, but for times.
  void ExpectTheSame(TrainOptions options, int64_t least_recorded) {
    const Outcome recorded = Train(1, "recorded", options);
    options.spec.mutable_training()->set_step_graph(false);
    const Outcome plain = Train(1, "plain", options);
    EXPECT_EQ(recorded.status, plain.status);
    EXPECT_EQ(recorded.model_sha256, plain.model_sha256);
    EXPECT_GE(recorded.result.recorded_steps, least_recorded);
    EXPECT_EQ(plain.result.recorded_steps, 0);
    const auto epochs = Epochs(recorded), others = Epochs(plain);
    ASSERT_EQ(epochs.size(), others.size());
    for (size_t i = 0; i < epochs.size(); ++i) EXPECT_EQ(epochs[i].DebugString(), others[i].DebugString());
    ASSERT_EQ(Warnings(recorded).size(), Warnings(plain).size());
    // Where a job fails, it is a matter of time which were reported.
    if (plain.status.ok()) {
      EXPECT_EQ(DigestsOf(recorded), DigestsOf(plain));
    }
  }
};

// Images lie in 16 bits between these layers.
constexpr char kResidual[] = R"({"training": {"precision": "PRECISION_MIXED_BFLOAT16"}, "model": {"layers": [
    {"reshape": {"targetShape": [2, 2, 2]}},
    {"conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME", "useBias": false}},
    {"batchNormalization": {}}, {"name": "stem", "relu": {}},
    {"conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME", "activation": "relu"}},
    {"name": "deep", "batchNormalization": {}}, {"name": "sum", "add": {}, "inputs": ["deep", "stem"]},
    {"relu": {}}, {"maxPooling2d": {"poolSize": [2, 2]}},
    {"globalAveragePooling2d": {}}, {"dense": {"units": 2}}]}})";
constexpr char kResidualInHalf[] = R"({"training": {"precision": "PRECISION_MIXED_FLOAT16",
                                                    "loss_scale": {"initial_scale": 16777216, "growth_steps": 5}},
    "model": {"layers": [
    {"reshape": {"targetShape": [2, 2, 2]}},
    {"conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME", "useBias": false}},
    {"name": "stem", "batchNormalization": {}},
    {"name": "deep", "conv2d": {"filters": 8, "kernelSize": [3, 3], "padding": "PADDING_SAME"}},
    {"name": "sum", "add": {}, "inputs": ["deep", "stem"]}, {"relu": {}},
    {"globalAveragePooling2d": {}}, {"dense": {"units": 2}}]}})";

struct Case {
  std::string name;
  std::string changes;
};

class GpuRecordedJobs : public GpuRecorded, public testing::WithParamInterface<Case> {};

// Of 64 steps the first, those at an epoch's end and those with a part batch go through the host.
TEST_P(GpuRecordedJobs, HaveTheSameBits) { ExpectTheSame(Options(Spec(2, GetParam().changes)), 50); }

INSTANTIATE_TEST_SUITE_P(
    Jobs, GpuRecordedJobs,
    testing::Values(
        Case{"Adam", "{}"}, Case{"Momentum", R"({"optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9}}})"},
        Case{"AdamWWarmup", R"({"optimizer": {"adamw": {"learning_rate": 0.01}, "clip_norm": 0.5},
                                "schedule": {"cosine_decay": {"decay_steps": 60}}})"},
        Case{"GlobalClip", R"({"optimizer": {"nadam": {"learning_rate": 0.01}, "global_clip_norm": 0.1}})"},
        Case{"Lamb", R"({"optimizer": {"lamb": {"learning_rate": 0.01}, "use_ema": true}})"},
        Case{"Half", R"({"training": {"precision": "PRECISION_MIXED_FLOAT16", "loss_scale": {"growth_steps": 7}}})"},
        Case{"Bfloat16", R"({"training": {"precision": "PRECISION_MIXED_BFLOAT16"}})"},
        Case{"Convolutions", R"({"training": {"precision": "PRECISION_MIXED_BFLOAT16"}, "model": {"layers": [
                                     {"reshape": {"targetShape": [1, 1, -1]}},
                                     {"conv2d": {"filters": 8, "kernelSize": [1, 3], "padding": "PADDING_SAME"}},
                                     {"batchNormalization": {}}, {"relu": {}},
                                     {"conv2d": {"filters": 8, "kernelSize": [1, 1], "activation": "relu"}},
                                     {"globalAveragePooling2d": {}}, {"dense": {"units": 2}}]}})"},
        Case{"Residual", kResidual}, Case{"ResidualInHalf", kResidualInHalf},
        Case{"LayerByLayer", R"({"model": {"layers": [{"dense": {"units": 16, "activation": "gelu"}},
                                                      {"dense": {"units": 2}}]}})"},
        Case{"TwoShards", R"({"training": {"logical_shards": 2}})"},
        Case{"GradientNorm", R"({"metrics": [{"gradient_norm": {}}]})"}),
    [](const auto& p) { return p.param.name; });

TEST_F(GpuRecorded, RowsOfASplitAreGathered) {
  TrainOptions options = Options(Spec(2));
  options.dataset = [] { return std::make_unique<SplitDataset>(); };
  ExpectTheSame(options, 50);
}

TEST_F(GpuRecorded, TargetsThatAreNumbersAreGathered) {
  TrainOptions options = Options(Spec(2, R"({"loss": {"categorical_crossentropy": {"from_logits": true}}})"));
  options.numbers = true;
  ExpectTheSame(options, 50);
}

// Sample 100 has an infinity.
TEST_F(GpuRecorded, AStepThatIsNotFiniteFailsTheJob) {
  TrainOptions options = Options(Spec(2));
  options.poisoned = true;
  ExpectTheSame(options, 0);
}

TEST_F(GpuRecorded, AStepThatIsNotFiniteIsSkipped) {
  TrainOptions options = Options(Spec(2, R"({"training": {"non_finite": "NON_FINITE_POLICY_SKIP_STEP"}})"));
  options.poisoned = true;
  ExpectTheSame(options, 45);
}

TEST_F(GpuRecorded, AStepThatIsNotFiniteIsRolledBack) {
  TrainOptions options = Options(Spec(2, R"({"training": {"non_finite": "NON_FINITE_POLICY_ROLL_BACK",
                                                   "checkpoint_interval_steps": 7}})"));
  options.poisoned = true;
  ExpectTheSame(options, 45);
}

TEST_F(GpuRecorded, AScaleThatIsTooLargeShrinks) {
  ExpectTheSame(Options(Spec(2, R"({"training": {"precision": "PRECISION_MIXED_FLOAT16",
                                            "loss_scale": {"initial_scale": 16777216, "growth_steps": 5}}})")),
                40);
}

TEST_F(GpuRecorded, AStopIsHeardAtOnce) {
  TrainOptions options = Options(Spec(2));
  options.stop_at = 17;
  const Outcome outcome = Train(1, "stopped", options);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.step, 18);
  EXPECT_GT(outcome.result.recorded_steps, 10);
}

TEST_F(GpuRecorded, AccumulatedStepsGoThroughTheHost) {
  TrainOptions options =
      Options(Spec(1, R"({"optimizer": {"adam": {"learning_rate": 0.01}, "gradient_accumulation_steps": 2}})"));
  const Outcome outcome = Train(1, "accumulated", options);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.recorded_steps, 0);
}

// A small network that computes a huge gradient of two equal samples: finite each, and infinite together.
class HugeGradients {
 public:
  HugeGradients() {
    v1::ModelSpec spec;
    for (const int units : {4, 3}) spec.add_layers()->mutable_dense()->set_units(units);
    Violations violations;
    v1::LossSpec loss;
    loss.mutable_sparse_categorical_crossentropy()->set_from_logits(true);
    model_ = Model::Create(device_.get(), PlanModel(spec, Shape{2}, violations), loss, DType::kF32, 1).value();
    // All is zero but the first layer's bias, so that each class has a third of the probability.
    device_->Fill(model_->parameters(), 0);
    for (const ParameterView& view : model_->parameter_views()) {
      if (view.name != "dense/bias") continue;
      device_->Fill({model_->parameters().as<float>() + view.offset, view.shape, DType::kF32}, 1);
    }
    for (Tensor& gradient : gradients_) gradient = Take(model_->parameters().shape, DType::kF32);
    batch_ = {Take({1, 2}, DType::kF32), Take({1}, DType::kI32), 1};
    stats_ = Take({model_->stats_width()}, DType::kF64);
  }

  // Steps that were done.
  int64_t Run(bool add) {
    const auto body = [this, add] {
      for (const Tensor& gradient : gradients_) {
        model_->ForwardBackward({.training = true}, batch_, 3.3e38, gradient, stats_, nullptr);
      }
      if (add) device_->Add(gradients_[1], gradients_[0], gradients_[1]);
      if (recording_) device_->recorder()->Decide(stats_, {}, {}, gradients_[1]);
      return absl::OkStatus();
    };
    recording_ = false;
    EXPECT_TRUE(body().ok());
    device_->Fill(stats_, 0);
    recording_ = true;
    StepRecorder& recorder = *device_->recorder();
    EXPECT_TRUE(recorder.Record({.results = stats_.elements(), .body = body, .update = [](int64_t) {}}).ok());
    EXPECT_TRUE(recorder.Start(0, 1).ok());
    std::vector<double> results(static_cast<size_t>(stats_.elements()));
    const absl::StatusOr<int64_t> done = recorder.Finish(results);
    EXPECT_TRUE(done.ok()) << done.status();
    return *done;
  }

 private:
  Tensor Take(const Shape& shape, DType type) {
    buffers_.push_back(device_->Allocate(static_cast<size_t>(shape.elements()) * SizeOf(type)).value());
    return {buffers_.back()->data(), shape, type};
  }

  std::unique_ptr<Device> device_ = MakeGpu();
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<Model> model_;
  std::array<Tensor, 2> gradients_;
  Batch batch_;
  Tensor stats_;
  bool recording_ = false;
};

TEST(GpuRecorder, LooksThroughASumOfFiniteGradients) {
  HugeGradients huge;
  EXPECT_EQ(huge.Run(false), 1);
  EXPECT_EQ(huge.Run(true), 0);
}

}  // namespace
}  // namespace lockstep
