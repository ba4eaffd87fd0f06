// SPDX-License-Identifier: Apache-2.0
// Every layer of the registry in a model that is trained: the promise, row by row.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/layer_bench.h"
#include "tests/conformance/tolerance.h"
#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep::conformance {
namespace {

// Four steps: the second of each epoch has a batch that the shards do not divide.
constexpr int64_t kSamples = 15;

class RowDataset final : public Dataset {
 public:
  explicit RowDataset(const LayerRow& row) : shape_(row.input), targets_(kSamples * 3) {
    for (const double v : RowInputs(row, row.input, kSamples, 31)) features_.push_back(static_cast<float>(v));
    const RngStream stream{99, RngPurpose::kSynthetic, 0};
    for (size_t i = 0; i < targets_.size(); ++i) targets_[i] = stream.Uniform(i);
    train_ = {.features = {features_.data(), Shape{kSamples, shape_.elements()}, DType::kF32},
              .targets = {targets_.data(), Shape{kSamples, 3}, DType::kF32},
              .samples = kSamples};
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return shape_; }
  const std::vector<float>& features() const { return features_; }

 private:
  Shape shape_;
  std::vector<float> features_, targets_;
  DataTable train_, test_;
};

v1::JobSpec JobOf(const LayerRow& row) {
  auto spec = FromText<v1::JobSpec>(
      "name: 'row' seed: 3 loss { mean_squared_error {} } optimizer { sgd { momentum: 0.9 } } "
      "training { batch_size: 8 epochs: 2 logical_shards: 4 checkpoint_interval_steps: 2 }");
  // The gradient grows with the square of the inputs.
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(0.05 / (row.reach * row.reach));
  *spec.mutable_model() = SpecOf(row, Form::kGraph);
  return spec;
}

// The trained model, once all ranks are done.
struct Trained {
  std::vector<ParameterView> views;
  std::vector<float> parameters;

  // Of one tensor.
  std::vector<float> Values(const std::string& name) const {
    const auto view = std::ranges::find(views, name, &ParameterView::name);
    if (view == views.end()) return {};
    return {parameters.begin() + view->offset, parameters.begin() + view->offset + view->shape.elements()};
  }
};

class TrainingTest : public testing::TestWithParam<LayerRow> {
 protected:
  void SetUp() override {
    // Every run writes its model down to the disk several times; that is tested elsewhere, and memory is
    // faster.
    const bool memory = std::filesystem::is_directory("/dev/shm");
    std::string pattern = (memory ? "/dev/shm/" : testing::TempDir()) + "lockstep-rows-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // From the beginning, or from a checkpoint of step 2. Without epochs: the initial weights.
  std::optional<Trained> Train(const v1::JobSpec& spec, const RowDataset& dataset, int ranks,
                               const std::string& checkpoint = "", bool far = false) {
    auto group = MakeThreadGroup(ranks);
    std::vector<LocalLink> links(static_cast<size_t>(ranks));
    std::vector<absl::Status> errors(static_cast<size_t>(ranks));
    std::vector<std::thread> threads;
    Trained trained;
    for (size_t rank = 0; rank < group.size(); ++rank) {
      threads.emplace_back([&, rank] {
        const SystemClock clock;
        const std::unique_ptr<Device> device = far ? std::make_unique<FarDevice>() : MakeTestDevice();
        TrainerConfig config{.spec = spec,
                             .plan = PlanOf(spec, dataset),
                             .generation = 1,
                             .output_dir = folder_,
                             .resume_checkpoint = checkpoint,
                             .first_step = checkpoint.empty() ? 0 : 2};
        auto trainer =
            Trainer::Create(std::move(config), device.get(), group[rank].get(), &dataset, &links[rank], &clock);
        errors[rank] = trainer.status();
        if (trainer.ok() && spec.training().epochs() > 0) errors[rank] = (*trainer)->Run().status();
        if (!errors[rank].ok()) {
          for (auto& communicator : group) communicator->Abort();
        } else if (rank == 0) {
          const Tensor p = (*trainer)->model().parameters();
          trained = {(*trainer)->model().parameter_views(), std::vector<float>(static_cast<size_t>(p.elements()))};
          device->CopyToHost(trained.parameters.data(), p.data, p.bytes());
        }
      });
    }
    for (std::thread& t : threads) t.join();
    for (const absl::Status& error : errors) EXPECT_TRUE(error.ok()) << error;
    if (trained.parameters.empty()) return std::nullopt;
    return trained;
  }
  std::optional<Trained> Initial(v1::JobSpec spec, const RowDataset& dataset) {
    spec.mutable_training()->set_epochs(0);
    return Train(spec, dataset, 1);
  }

  std::filesystem::path folder_;
};

TEST_P(TrainingTest, AnyNumberOfWorkersAndARestartGiveTheSameBits) {
  const RowDataset dataset(GetParam());
  const v1::JobSpec spec = JobOf(GetParam());
  const auto initial = Initial(spec, dataset), one = Train(spec, dataset, 1);
  ASSERT_TRUE(initial && one);
  EXPECT_NE(one->parameters, initial->parameters);
  for (const float v : one->parameters) ASSERT_TRUE(std::isfinite(v));
  const auto resumed = Train(spec, dataset, 1, folder_ / "checkpoints" / "step-2");
  ASSERT_TRUE(resumed);
  EXPECT_EQ(resumed->parameters, one->parameters) << "2 steps, a checkpoint and 2 steps more";
  for (const int ranks : {2, 4}) {
    const auto more = Train(spec, dataset, ranks);
    ASSERT_TRUE(more);
    EXPECT_EQ(more->parameters, one->parameters) << ranks << " workers";
  }
}

TEST_P(TrainingTest, ADeviceWithMemoryOfItsOwnGivesTheSameBits) {
  const RowDataset dataset(GetParam());
  const v1::JobSpec spec = JobOf(GetParam());
  const auto near = Train(spec, dataset, 2);
  ASSERT_TRUE(near);
  for (const int ranks : {1, 2}) {
    const auto far = Train(spec, dataset, ranks, "", /*far=*/true);
    ASSERT_TRUE(far);
    EXPECT_EQ(far->parameters, near->parameters) << ranks << " workers";
  }
}

TEST_P(TrainingTest, AFrozenLayerNeverChanges) {
  const RowDataset dataset(GetParam());
  v1::JobSpec spec = JobOf(GetParam());
  for (v1::LayerSpec& layer : *spec.mutable_model()->mutable_layers()) {
    if (layer.name() == "subject") layer.set_trainable(false);
  }
  const auto initial = Initial(spec, dataset);
  ASSERT_TRUE(initial);
  const auto belongs = [](const ParameterView& view) { return view.name.starts_with("subject/"); };
  if (std::ranges::none_of(initial->views, belongs)) return;
  const auto trained = Train(spec, dataset, 2);
  ASSERT_TRUE(trained);
  for (const ParameterView& view : trained->views) {
    if (!belongs(view)) continue;
    EXPECT_EQ(trained->Values(view.name), initial->Values(view.name)) << view.name;
  }
  EXPECT_NE(trained->parameters, initial->parameters);
}

INSTANTIATE_TEST_SUITE_P(Registry, TrainingTest, testing::ValuesIn(LayerRows()),
                         [](const auto& p) { return TestName(p.param); });

// moving = momentum moving + (1 - momentum) batch. `batch` is the mean over the shards' statistics, each as
// often as it has samples; synchronized, that of all samples.
class MovingTest : public TrainingTest {};

TEST_P(MovingTest, StatisticsFollowTheFormula) {
  const RowDataset dataset(GetParam());
  v1::JobSpec spec = JobOf(GetParam());
  // The layer stands first, so that its input is known, and one shard has the whole epoch, whose order
  // does not matter.
  spec.mutable_model()->Clear();
  *spec.mutable_model()->add_layers() = FromText<v1::LayerSpec>(GetParam().layer + " name: 'subject'");
  spec.mutable_model()->add_layers()->mutable_flatten();
  spec.mutable_model()->add_layers()->mutable_dense()->set_units(3);
  spec.mutable_training()->set_batch_size(kSamples);
  spec.mutable_training()->set_logical_shards(1);
  const auto trained = Train(spec, dataset, 1);
  ASSERT_TRUE(trained);
  const v1::BatchNormalizationLayer& layer = spec.model().layers(0).batch_normalization();
  const double momentum = layer.has_momentum() ? layer.momentum() : 0.99;
  const int64_t channels = GetParam().input[0], places = GetParam().input.elements() / channels;
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<double> numbers;
    for (size_t i = 0; i < dataset.features().size(); ++i) {
      if (static_cast<int64_t>(i) / places % channels == c) numbers.push_back(dataset.features()[i]);
    }
    double mean = 0, variance = 0;
    for (const double v : numbers) mean += v / static_cast<double>(numbers.size());
    for (const double v : numbers) variance += (v - mean) * (v - mean) / static_cast<double>(numbers.size());
    double moving_mean = 0, moving_variance = 1;
    const int64_t steps = spec.training().epochs();
    for (int64_t step = 0; step < steps; ++step) {
      moving_mean = momentum * moving_mean + (1 - momentum) * mean;
      moving_variance = momentum * moving_variance + (1 - momentum) * variance;
    }
    const double tolerance = Tolerance(DType::kF32, static_cast<int64_t>(numbers.size()) + steps);
    EXPECT_LE(RelativeError(trained->Values("subject/moving_mean")[c], moving_mean), tolerance);
    EXPECT_LE(RelativeError(trained->Values("subject/moving_variance")[c], moving_variance), tolerance);
  }
}

std::vector<LayerRow> MovingRows() {
  std::vector<LayerRow> rows;
  for (const LayerRow& row : LayerRows()) {
    if (row.kind == "batch_normalization" && row.variant != "frozen") rows.push_back(row);
  }
  return rows;
}
INSTANTIATE_TEST_SUITE_P(BatchNormalization, MovingTest, testing::ValuesIn(MovingRows()),
                         [](const auto& p) { return TestName(p.param); });

// Shards of 3, 4 and 1 samples.
TEST_P(MovingTest, UnevenShardsCountByTheirSamples) {
  ModelBench bench(GetParam(), Form::kFirst, DType::kF64, 3);
  const int64_t channels = GetParam().input[0], places = GetParam().input.elements() / channels;
  std::vector<double> mean(channels, 0.0), variance(channels, 0.0);
  std::vector<double> gradient(static_cast<size_t>(bench.gradient.elements()), 0.0);
  const bool together = bench.model->needs_whole_batch();
  const std::vector<int64_t> shards{0, 3, 7, 8}, whole{0, kBatch};
  const std::vector<int64_t>& bounds = together ? whole : shards;
  for (size_t s = 0; s + 1 < bounds.size(); ++s) {
    const double share = static_cast<double>(bounds[s + 1] - bounds[s]) / kBatch;
    for (int64_t c = 0; c < channels; ++c) {
      std::vector<double> numbers;
      for (int64_t i = bounds[s]; i < bounds[s + 1]; ++i) {
        for (int64_t p = 0; p < places; ++p)
          numbers.push_back(Arrays::Get(bench.samples, (i * channels + c) * places + p));
      }
      double own = 0, spread = 0;
      for (const double v : numbers) own += v / static_cast<double>(numbers.size());
      for (const double v : numbers) spread += (v - own) * (v - own) / static_cast<double>(numbers.size());
      mean[c] += share * own;
      variance[c] += share * spread;
    }
    if (together) {
      bench.LossTogether(shards);
    } else {
      bench.LossOf(bounds[s], bounds[s + 1]);
    }
    for (size_t i = 0; i < gradient.size(); ++i) gradient[i] += Arrays::Get(bench.gradient, static_cast<int64_t>(i));
  }
  const Tensor parameters = bench.model->parameters();
  std::vector<double> before;
  for (int64_t i = 0; i < parameters.elements(); ++i) before.push_back(Arrays::Get(parameters, i));
  bench.model->UpdateMoving({gradient.data(), bench.gradient.shape, DType::kF64});
  for (const ParameterView& view : bench.model->parameter_views()) {
    const double keep = view.moving_momentum.value_or(1.0);
    const std::vector<double>& batch = view.name.ends_with("moving_mean") ? mean : variance;
    for (int64_t i = 0; i < view.shape.elements(); ++i) {
      const auto at = static_cast<size_t>(view.offset + i);
      const double expected = keep * before[at] + (view.moving_momentum ? (1 - keep) * batch[i] : 0.0);
      EXPECT_LE(RelativeError(Arrays::Get(parameters, view.offset + i), expected),
                Tolerance(DType::kF64, kBatch * places))
          << view.name;
      // What is left is a gradient.
      if (view.moving_momentum.has_value()) {
        EXPECT_EQ(gradient[at], 0.0) << view.name;
      }
    }
  }
}

}  // namespace
}  // namespace lockstep::conformance
