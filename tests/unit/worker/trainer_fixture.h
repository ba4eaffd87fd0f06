// SPDX-License-Identifier: Apache-2.0
// Training in one process: ranks are threads, the coordinator is an object that grants everything.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/failpoints.h"
#include "common/formats/safetensors.h"
#include "common/rng.h"
#include "google/protobuf/util/json_util.h"
#include "tests/unit/worker/limited_device.h"
#include "worker/comm/communicator.h"
#include "worker/train/trainer.h"

namespace lockstep {

// Grants everything at once and keeps the reports.
class LocalLink final : public CoordinatorLink {
 public:
  absl::Status AwaitLease(int64_t step) override {
    if (step == stop_at) request_ = stop_kind;
    return absl::OkStatus();
  }
  StopRequest stop_request() const override { return request_; }
  int64_t Report(v1::SessionRequest report) override {
    const std::lock_guard lock(mutex_);
    reports.push_back(std::move(report));
    return static_cast<int64_t>(reports.size());
  }
  int64_t acknowledged() const override { return acknowledges ? INT64_MAX : 0; }
  bool AwaitStored(int64_t report, std::chrono::milliseconds) override { return acknowledged() >= report; }
  bool WithdrawSnapshot(int64_t report) override {
    const std::lock_guard lock(mutex_);
    if (report <= sends) return false;
    reports[report - 1].mutable_commit_steps()->set_snapshot(false);
    return true;
  }
  Progress& progress() override { return progress_; }

  std::vector<v1::SessionRequest> reports;
  int64_t stop_at = -1;
  StopRequest stop_kind = StopRequest::kStopWithCheckpoint;
  // False: a coordinator that is away.
  bool acknowledges = true;
  // Reports up to this number may have reached it.
  int64_t sends = INT64_MAX;

 private:
  // Checkpoints are reported from their own thread.
  std::mutex mutex_;
  StopRequest request_ = StopRequest::kNone;
  Progress progress_;
};

// Two noisy classes in eight numbers.
class BlobDataset final : public Dataset {
 public:
  // numbers: the targets are distributions over the classes instead of class indices.
  explicit BlobDataset(int64_t samples, bool poisoned = false, bool numbers = false)
      : features_(samples * 8), labels_(samples), distributions_(numbers ? samples * 2 : 0) {
    const RngStream stream{99, RngPurpose::kSynthetic, 0};
    for (int64_t i = 0; i < samples; ++i) {
      labels_[i] = static_cast<int32_t>(i % 2);
      for (int j = 0; j < 8; ++j) features_[i * 8 + j] = stream.Uniform(i * 8 + j) + 0.25f * labels_[i];
    }
    for (size_t i = 0; i < distributions_.size(); ++i) {
      distributions_[i] = labels_[i / 2] == static_cast<int32_t>(i % 2) ? 0.875f : 0.125f;
    }
    if (poisoned) features_[100 * 8 + 3] = std::numeric_limits<float>::infinity();
    const int64_t test = samples / 4;
    train_ = Part(0, samples - test);
    test_ = Part(samples - test, test);
  }
  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return shape_; }

 private:
  DataTable Part(int64_t first, int64_t count) {
    DataTable part{.features = {features_.data() + first * 8, Shape{count, 8}, DType::kF32},
                   .targets = {labels_.data() + first, Shape{count}, DType::kI32},
                   .samples = count};
    if (!distributions_.empty()) {
      part.targets = {distributions_.data() + first * 2, Shape{count, 2}, DType::kF32};
    }
    return part;
  }
  std::vector<float> features_;
  std::vector<int32_t> labels_;
  std::vector<float> distributions_;
  Shape shape_{8};
  DataTable train_, test_;
};

inline v1::JobSpec BlobSpec() {
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"name": "blobs", "seed": 5,
          "model": {"layers": [{"dense": {"units": 16, "activation": "relu"}}, {"dropout": {"rate": 0.2}},
                               {"dense": {"units": 2}}]},
          "loss": {"sparse_categorical_crossentropy": {"from_logits": true}},
          "optimizer": {"adam": {"learning_rate": 0.01}},
          "training": {"batch_size": 24, "epochs": 3, "logical_shards": 4, "digest_interval_steps": 10},
          "resources": {"workers": 4}})",
      &spec);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return spec;
}

inline JobPlan PlanOf(const v1::JobSpec& spec, const Dataset& dataset) {
  Violations violations;
  JobPlan plan;
  plan.dataset = {.sample = dataset.sample_shape(),
                  .train_samples = dataset.train().samples,
                  .test_samples = dataset.test().samples};
  plan.model = PlanModel(spec.model(), dataset.sample_shape(), violations);
  EXPECT_TRUE(violations.empty());
  plan.logical_shards = spec.training().logical_shards();
  plan.steps_per_epoch = (plan.dataset.train_samples + spec.training().batch_size() - 1) / spec.training().batch_size();
  plan.total_steps = plan.steps_per_epoch * spec.training().epochs();
  return plan;
}

// The weights of BlobSpec's model in a file, one tensor behind the other.
inline std::vector<float> Values(const std::filesystem::path& file, const std::string& prefix) {
  std::vector<float> values;
  const SafetensorsFile tensors = ReadSafetensors(file).value();
  for (const char* name : {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}) {
    for (const TensorRead& t : tensors.tensors) {
      if (t.name != prefix + name) continue;
      const size_t at = values.size();
      values.resize(at + t.bytes.size() / sizeof(float));
      std::memcpy(values.data() + at, t.bytes.data(), t.bytes.size());
    }
  }
  return values;
}

struct TrainOptions {
  int64_t stop_at = -1;
  StopRequest stop_kind = StopRequest::kStopWithCheckpoint;
  std::string resume_checkpoint;
  std::string resume_snapshot;
  int64_t first_step = 0;
  // Of rank 0 alone; -1: the same.
  int64_t first_step_of_rank_0 = -1;
  std::string snapshot_path;
  bool poisoned = false;
  // See BlobDataset.
  bool numbers = false;
  bool acknowledges = true;
  int64_t sends = INT64_MAX;
  v1::JobSpec spec = BlobSpec();
  // See TrainerConfig.
  bool scale_loss = false;
  double run_seconds = TrainerConfig{}.run_seconds;
  // Bytes of each rank's device; 0: no limit.
  int64_t device_bytes = 0;
  // Lines of a failpoint file.
  std::string failpoints;
  // Each rank's own; null: blobs.
  std::function<std::unique_ptr<Dataset>()> dataset;
  // Each rank's own; null: the CPU.
  std::function<std::unique_ptr<Device>()> device;
  // See TrainerConfig. Of one rank.
  RangeMarker* ranges = nullptr;
  // See TrainerConfig; null: none.
  std::function<DeviceReducerFactory(Device*, Communicator*)> device_reducer;
};

// 32 steps an epoch, 96 in all.
class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "lockstep-trainer-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  struct Outcome {
    std::string model_sha256;
    // Rank 0's.
    std::vector<v1::SessionRequest> reports;
    std::vector<std::vector<v1::SessionRequest>> reports_of_rank;
    Trainer::Result result;
    absl::Status status;
    // Of all ranks that failed by themselves.
    std::vector<std::string> failures;
  };

  Outcome Train(int ranks, const std::string& output, const TrainOptions& options = {}) {
    std::filesystem::create_directories(folder_ / output);
    auto group = MakeThreadGroup(ranks);
    std::vector<LocalLink> links(ranks);
    std::vector<absl::StatusOr<Trainer::Result>> results(ranks, absl::UnknownError("did not run"));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      // One rank alone hears of the stop; all must stop at the same step.
      if (rank == ranks - 1) links[rank].stop_at = options.stop_at;
      links[rank].stop_kind = options.stop_kind;
      links[rank].acknowledges = options.acknowledges;
      links[rank].sends = options.sends;
      threads.emplace_back([&, rank] {
        results[rank] = TrainRank(*group[rank], links[rank], folder_ / output, options);
        if (!results[rank].ok()) {
          for (auto& communicator : group) communicator->Abort();
        }
      });
    }
    for (std::thread& t : threads) t.join();
    Outcome outcome;
    for (int rank = 0; rank < ranks; ++rank) {
      if (!results[rank].ok() && !absl::IsAborted(results[rank].status())) {
        outcome.status = results[rank].status();
        outcome.failures.emplace_back(outcome.status.message());
      }
      if (results[rank].ok()) outcome.result = *results[rank];
      outcome.reports_of_rank.push_back(links[rank].reports);
    }
    outcome.reports = links[0].reports;
    for (const v1::SessionRequest& report : outcome.reports) {
      if (report.checkpoint_saved().final()) outcome.model_sha256 = report.checkpoint_saved().parameters_sha256();
    }
    return outcome;
  }

  // The same bits from 1, 2 and 4 ranks, and from 2 that stop after step 40 and 3 that go on. What one rank gave, and
  // those that went on.
  std::pair<Outcome, Outcome> ExpectSameBits(const v1::JobSpec& spec) {
    const Outcome one = Train(1, "one", {.spec = spec});
    EXPECT_EQ(one.model_sha256.size(), 64u) << one.status;
    EXPECT_EQ(Train(2, "two", {.spec = spec}).model_sha256, one.model_sha256);
    EXPECT_EQ(Train(4, "four", {.spec = spec}).model_sha256, one.model_sha256);
    Train(2, "parts", {.stop_at = 40, .spec = spec});
    const std::string checkpoint = folder_ / "parts" / "checkpoints" / "step-41";
    EXPECT_TRUE(std::filesystem::exists(checkpoint));
    const Outcome rest = Train(3, "parts", {.resume_checkpoint = checkpoint, .first_step = 41, .spec = spec});
    EXPECT_EQ(rest.model_sha256, one.model_sha256);
    return {one, rest};
  }

  static std::vector<v1::EpochCompleted> Epochs(const Outcome& outcome) {
    std::vector<v1::EpochCompleted> epochs;
    for (const v1::SessionRequest& report : outcome.reports) {
      if (!report.has_epoch_completed()) continue;
      epochs.push_back(report.epoch_completed());
      epochs.back().clear_epoch_seconds();
    }
    return epochs;
  }
  // "<step> <digest>", as they were reported.
  static std::vector<std::string> DigestsOf(const Outcome& outcome) {
    std::vector<std::string> digests;
    for (const v1::SessionRequest& report : outcome.reports) {
      for (const v1::StepDigest& digest : report.commit_steps().digests()) {
        digests.push_back(std::to_string(digest.step()) + " " + digest.digest());
      }
    }
    return digests;
  }
  static std::vector<v1::Warning> Warnings(const Outcome& outcome) {
    std::vector<v1::Warning> warnings;
    for (const v1::SessionRequest& report : outcome.reports) {
      if (report.has_warning()) warnings.push_back(report.warning());
    }
    return warnings;
  }

  std::filesystem::path folder_;

 private:
  static absl::StatusOr<Trainer::Result> TrainRank(Communicator& communicator, LocalLink& link,
                                                   const std::filesystem::path& output, const TrainOptions& options) {
    const std::unique_ptr<Dataset> dataset =
        options.dataset ? options.dataset() : std::make_unique<BlobDataset>(1000, options.poisoned, options.numbers);
    const SystemClock clock;
    std::unique_ptr<Device> device = options.device ? options.device() : MakeCpuDevice(1);
    if (options.device_bytes > 0) device = std::make_unique<LimitedDevice>(std::move(device), options.device_bytes);
    std::unique_ptr<Failpoints> failpoints;
    if (!options.failpoints.empty()) {
      auto armed = Failpoints::Load(options.failpoints, communicator.rank());
      if (!armed.ok()) return armed.status();
      failpoints = std::move(*armed);
    }
    TrainerConfig config{.spec = options.spec,
                         .plan = PlanOf(options.spec, *dataset),
                         .generation = 1,
                         .output_dir = output,
                         .resume_checkpoint = options.resume_checkpoint,
                         .resume_snapshot = options.resume_snapshot,
                         .first_step = communicator.rank() == 0 && options.first_step_of_rank_0 >= 0
                                           ? options.first_step_of_rank_0
                                           : options.first_step,
                         .snapshot_path = options.snapshot_path,
                         // Small networks too, so that tests are quick.
                         .shared_update_elements = 0,
                         .ranges = options.ranges,
                         .scale_loss = options.scale_loss,
                         .run_seconds = options.run_seconds};
    if (options.device_reducer) config.device_reducer = options.device_reducer(device.get(), &communicator);
    auto trainer =
        Trainer::Create(std::move(config), device.get(), &communicator, dataset.get(), &link, &clock, failpoints.get());
    if (!trainer.ok()) return trainer.status();
    return (*trainer)->Run();
  }
};

}  // namespace lockstep
