// SPDX-License-Identifier: Apache-2.0
// Samples per second of the whole training loop on one core: order, gather, forward, backward, sum, update and what
// is kept of each step. Only the coordinator is missing.
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "common/rng.h"
#include "google/protobuf/util/json_util.h"
#include "worker/comm/communicator.h"
#include "worker/train/trainer.h"

namespace lockstep {
namespace {

// Grants everything, keeps nothing but what each phase of a step took.
class FreeLink final : public CoordinatorLink {
 public:
  absl::Status AwaitLease(int64_t) override { return absl::OkStatus(); }
  StopRequest stop_request() const override { return StopRequest::kNone; }
  int64_t Report(v1::SessionRequest report) override {
    const std::lock_guard lock(mutex_);
    if (report.has_commit_steps()) phases_ = report.commit_steps().steps().phases();
    return ++reports_;
  }
  int64_t acknowledged() const override { return INT64_MAX; }
  bool AwaitStored(int64_t, std::chrono::milliseconds) override { return true; }
  bool WithdrawSnapshot(int64_t) override { return true; }
  Progress& progress() override { return progress_; }
  const v1::StepPhases& phases() const { return phases_; }

 private:
  std::mutex mutex_;
  int64_t reports_ = 0;
  v1::StepPhases phases_;
  Progress progress_;
};

// Drawn bytes in the shape of MNIST, and as dark: a fifth is not zero, all of that 4 places and more from the edge.
class ByteDataset final : public Dataset {
 public:
  explicit ByteDataset(int64_t samples) : features_(static_cast<size_t>(samples * 784)), labels_(samples) {
    const RngStream stream{1, RngPurpose::kSynthetic, 0};
    const auto inside = [](size_t at) { return at >= 4 && at < 24; };
    for (size_t i = 0; i < features_.size(); ++i) {
      const uint64_t word = stream.Word(i);
      const bool bright = inside(i % 784 / 28) && inside(i % 28) && (word >> 8) % 8 < 3;
      features_[i] = bright ? static_cast<uint8_t>(word) : 0;
    }
    for (int64_t i = 0; i < samples; ++i) labels_[i] = static_cast<int32_t>(stream.Word(features_.size() + i) % 10);
    train_ = {.features = {features_.data(), Shape{samples, 784}, DType::kU8},
              .scale = 1.0f / 255.0f,
              .targets = {labels_.data(), Shape{samples}, DType::kI32},
              .samples = samples};
    test_ = train_;
    test_.features.shape = Shape{0, 784};
    test_.targets.shape = Shape{0};
    test_.samples = 0;
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return shape_; }

 private:
  std::vector<uint8_t> features_;
  std::vector<int32_t> labels_;
  Shape shape_{784};
  DataTable train_, test_;
};

// {batch size, logical shards}.
void RunTrainer(benchmark::State& state, const std::string& layers, const std::string& optimizer) {
  static const ByteDataset dataset(60'000);
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"name": "bench", "seed": 1, "model": {"layers": [)" + layers +
          R"(]}, "loss": {"sparse_categorical_crossentropy": {"from_logits": true}}, "optimizer": )" + optimizer +
          R"(, "training": {"epochs": 1}, "resources": {"workers": 1}})",
      &spec);
  if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  spec.mutable_training()->set_batch_size(state.range(0));
  Violations violations;
  JobPlan plan;
  plan.dataset = {.sample = dataset.sample_shape(), .train_samples = dataset.train().samples, .test_samples = 0};
  plan.model = PlanModel(spec.model(), dataset.sample_shape(), violations);
  plan.logical_shards = static_cast<int>(state.range(1));
  plan.steps_per_epoch = (dataset.train().samples + state.range(0) - 1) / state.range(0);
  plan.total_steps = plan.steps_per_epoch;
  std::string folder = std::filesystem::temp_directory_path() / "lockstep-bench-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return state.SkipWithError("no temporary folder");
  const SystemClock clock;
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const std::unique_ptr<Communicator> single = MakeSingleCommunicator();
  FreeLink link;
  for (auto _ : state) {
    state.PauseTiming();
    TrainerConfig config{.spec = spec, .plan = plan, .generation = 1, .output_dir = folder};
    auto trainer = Trainer::Create(std::move(config), device.get(), single.get(), &dataset, &link, &clock, nullptr);
    state.ResumeTiming();
    if (!trainer.ok() || !(*trainer)->Run().ok()) state.SkipWithError("training failed");
  }
  std::filesystem::remove_all(folder);
  state.SetItemsProcessed(state.iterations() * dataset.train().samples);
  const auto microseconds = [](double seconds) { return benchmark::Counter(1e6 * seconds); };
  state.counters["data"] = microseconds(link.phases().data_seconds());
  state.counters["forward"] = microseconds(link.phases().forward_seconds());
  state.counters["backward"] = microseconds(link.phases().backward_seconds());
  state.counters["sum"] = microseconds(link.phases().allreduce_seconds());
  state.counters["update"] = microseconds(link.phases().optimizer_seconds());
  state.counters["step"] = benchmark::Counter(1e-6 * static_cast<double>(plan.total_steps * state.iterations()),
                                              benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

constexpr char kSgd[] = R"({"sgd": {"learning_rate": 0.01}})";
constexpr char kAdam[] = R"({"adam": {}})";
constexpr char kTiny[] =
    R"({"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 16, "activation": "relu"}},
                            {"dense": {"units": 10}})";
constexpr char kSmall[] = R"({"dense": {"units": 128, "activation": "relu"}}, {"dense": {"units": 10}})";
constexpr char kLecture[] = R"({"dense": {"units": 128, "activation": "relu"}}, {"dropout": {"rate": 0.2}},
                               {"dense": {"units": 10}})";

void BM_Train_784_16_16_10(benchmark::State& state) { RunTrainer(state, kTiny, kSgd); }
void BM_Train_784_128_10(benchmark::State& state) { RunTrainer(state, kSmall, kSgd); }
void BM_Train_784_128_Dropout_10_Adam(benchmark::State& state) { RunTrainer(state, kLecture, kAdam); }
BENCHMARK(BM_Train_784_16_16_10)->Args({10, 1})->Args({32, 1})->Args({32, 2})->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Train_784_128_10)->Args({128, 1})->Args({128, 2})->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Train_784_128_Dropout_10_Adam)->Args({32, 1})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lockstep
