// SPDX-License-Identifier: Apache-2.0
// Samples that are changed and read on their way to the step: the promise holds for them too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/trainer_fixture.h"
#include "worker/data/file_rows.h"
#include "worker/train/failure.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kSamples = 1000;
constexpr int64_t kHeldOut = 300;
constexpr int64_t kPixels = 6 * 5;

// Images of one channel: noise, brighter in the upper half for class 1. Of bytes, in memory or in two files.
class ImageSet final : public Dataset {
 public:
  ImageSet() : pixels_(kSamples * kPixels), labels_(kSamples) {
    const RngStream stream{99, RngPurpose::kSynthetic, 0};
    for (int64_t i = 0; i < kSamples; ++i) {
      labels_[i] = static_cast<int32_t>(i % 2);
      for (int64_t j = 0; j < kPixels; ++j) {
        const int64_t bright = labels_[i] != 0 && j < kPixels / 2 ? 60 : 0;
        pixels_[i * kPixels + j] = static_cast<uint8_t>(stream.Word(i * kPixels + j) % 160 + bright);
      }
    }
    train_ = Part(0, kSamples - kHeldOut);
    test_ = Part(kSamples - kHeldOut, kHeldOut);
  }

  // Each part's pixels as two files in `folder`.
  void Save(const std::string& folder) const {
    for (const auto& [table, name] : {std::pair{&train_, "/train"}, {&test_, "/test"}}) {
      const int64_t half = table->samples / 2;
      for (const auto& [suffix, first, count] :
           {std::tuple{"-0", int64_t{0}, half}, {"-1", half, table->samples - half}}) {
        std::ofstream file(folder + name + suffix, std::ios::binary);
        file << "a header of 16 b";
        file.write(table->features.as<char>() + first * kPixels, count * kPixels);
      }
    }
  }
  // From here on they are read from there.
  absl::Status UseFiles(const std::string& folder) {
    const absl::Status train = UseFile(train_, folder, "train", train_rows_);
    return train.ok() ? UseFile(test_, folder, "test", test_rows_) : train;
  }

  const DataTable& train() const override { return train_; }
  const DataTable& test() const override { return test_; }
  const Shape& sample_shape() const override { return shape_; }

 private:
  DataTable Part(int64_t first, int64_t count) {
    return {.features = {pixels_.data() + first * kPixels, Shape{count, kPixels}, DType::kU8},
            .scale = 1.0f / 255,
            .offset = -0.25f,
            .targets = {labels_.data() + first, Shape{count}, DType::kI32},
            .samples = count};
  }
  static absl::Status UseFile(DataTable& table, const std::string& folder, const std::string& name,
                              std::unique_ptr<FileRows>& rows) {
    const int64_t half = table.samples / 2;
    auto made = FileRows::Create({{name + "-0", 16, half}, {name + "-1", 16, table.samples - half}}, {folder},
                                 {.bytes = kPixels, .features = kPixels, .scale = table.scale, .offset = table.offset},
                                 table.targets);
    if (!made.ok()) return made.status();
    rows = std::move(*made);
    table.source = rows.get();
    table.features.data = nullptr;
    return absl::OkStatus();
  }

  std::vector<uint8_t> pixels_;
  std::vector<int32_t> labels_;
  Shape shape_{1, 6, 5};
  DataTable train_, test_;
  std::unique_ptr<FileRows> train_rows_, test_rows_;
};

class TrainerInputTest : public TrainerTest {
 protected:
  static v1::JobSpec ImageSpec(const std::string& dataset) {
    v1::JobSpec spec = BlobSpec();
    spec.mutable_model()->clear_layers();
    spec.mutable_model()->add_layers()->mutable_flatten();
    spec.mutable_model()->add_layers()->mutable_dense()->set_units(16);
    spec.mutable_model()->add_layers()->mutable_dropout()->set_rate(0.2);
    spec.mutable_model()->add_layers()->mutable_dense()->set_units(2);
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(dataset, spec.mutable_dataset()).ok());
    return spec;
  }
  // In memory.
  static TrainOptions Whole(const v1::JobSpec& spec) {
    return {.spec = spec, .dataset = [] { return std::make_unique<ImageSet>(); }};
  }
  // From files, which each rank opens.
  TrainOptions Streamed(const v1::JobSpec& spec) const {
    ImageSet().Save(folder_);
    return {.spec = spec, .dataset = [folder = folder_.string()]() -> std::unique_ptr<Dataset> {
              auto set = std::make_unique<ImageSet>();
              EXPECT_TRUE(set->UseFiles(folder).ok());
              return set;
            }};
  }
};

const char* const kChanges = R"({"augmentation": [{"random_shift": {"vertical": 2, "horizontal": 1}},
  {"random_flip": {"horizontal": true}}, {"random_rotation": {"degrees": 15}}, {"random_crop": {"padding": 1}},
  {"cutout": {"size": 2}}], "normalize": {"mean": [0.1], "stddev": [0.3]}})";

TEST_F(TrainerInputTest, AnyNumberOfRanksTrainsTheSameBitsOnChangedSamples) {
  const TrainOptions options = Whole(ImageSpec(kChanges));
  const Outcome one = Train(1, "one", options);
  ASSERT_TRUE(one.status.ok()) << one.status;
  for (const int ranks : {2, 3, 4}) {
    const Outcome run = Train(ranks, std::to_string(ranks), options);
    EXPECT_EQ(run.model_sha256, one.model_sha256) << ranks << " ranks";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Epochs(run)[i].SerializeAsString(), Epochs(one)[i].SerializeAsString());
  }
  EXPECT_NE(Train(1, "plain", Whole(ImageSpec("{}"))).model_sha256, one.model_sha256);
}

TEST_F(TrainerInputTest, SamplesFromFilesTrainTheBitsOfThoseInMemory) {
  for (const char* dataset : {"{}", kChanges}) {
    const v1::JobSpec spec = ImageSpec(dataset);
    const Outcome whole = Train(2, "whole", Whole(spec));
    for (const int ranks : {1, 2, 4}) {
      const Outcome run = Train(ranks, std::to_string(ranks), Streamed(spec));
      ASSERT_TRUE(run.status.ok()) << run.status;
      EXPECT_EQ(run.model_sha256, whole.model_sha256) << ranks << " ranks";
      for (int i = 0; i < 3; ++i) EXPECT_EQ(Epochs(run)[i].SerializeAsString(), Epochs(whole)[i].SerializeAsString());
    }
  }
}

TEST_F(TrainerInputTest, TheRingsLengthIsNoMatterForTheBits) {
  std::set<std::string> models;
  for (const int batches : {1, 2, 16}) {
    v1::JobSpec spec = ImageSpec(kChanges);
    spec.mutable_dataset()->set_prefetch_batches(batches);
    models.insert(Train(2, std::to_string(batches), Streamed(spec)).model_sha256);
  }
  EXPECT_EQ(models.size(), 1u);
}

TEST_F(TrainerInputTest, BatchesGoToADeviceWithMemoryOfItsOwnAsTheyWereMade) {
  for (const int batches : {1, 2, 16}) {
    v1::JobSpec spec = ImageSpec(kChanges);
    spec.mutable_dataset()->set_prefetch_batches(batches);
    for (const int ranks : {1, 2}) {
      TrainOptions options = Streamed(spec);
      const Outcome near = Train(ranks, "near", options);
      options.device = [] { return std::make_unique<FarDevice>(); };
      const Outcome far = Train(ranks, "far", options);
      ASSERT_TRUE(far.status.ok()) << far.status;
      EXPECT_EQ(far.model_sha256, near.model_sha256) << ranks << " ranks, " << batches << " batches";
      EXPECT_EQ(Epochs(far).back().SerializeAsString(), Epochs(near).back().SerializeAsString());
    }
  }
}

TEST_F(TrainerInputTest, AStoppedRunGoesOnWithOtherRanksToTheSameBits) {
  TrainOptions options = Streamed(ImageSpec(kChanges));
  const Outcome whole = Train(2, "whole", options);
  // 30 steps an epoch: in its middle, at its end, and at once.
  for (const int64_t stop_at : {int64_t{0}, int64_t{40}, int64_t{59}}) {
    const std::string name = std::to_string(stop_at), path = folder_ / ("snapshot-" + name);
    TrainOptions first = options, second = options;
    first.stop_at = stop_at;
    first.stop_kind = StopRequest::kStop;
    first.snapshot_path = second.resume_snapshot = path;
    second.first_step = stop_at + 1;
    ASSERT_EQ(Train(3, name, first).result.step, stop_at + 1);
    const Outcome rest = Train(1, name, second);
    ASSERT_TRUE(rest.status.ok()) << rest.status;
    EXPECT_EQ(rest.model_sha256, whole.model_sha256) << "stopped after step " << stop_at;
    EXPECT_EQ(Epochs(rest).back().SerializeAsString(), Epochs(whole).back().SerializeAsString());
  }
}

TEST_F(TrainerInputTest, AFileThatIsCutShortFailsTheJobForGoodAndIsNamed) {
  for (const auto& [part, far] : {std::pair{"train-1", false}, {"train-1", true}, {"test-0", false}}) {
    TrainOptions options = Streamed(ImageSpec(kChanges));
    if (far) options.device = [] { return std::make_unique<FarDevice>(); };
    options.dataset = [folder = folder_.string(), part = std::string(part)]() -> std::unique_ptr<Dataset> {
      auto set = std::make_unique<ImageSet>();
      EXPECT_TRUE(set->UseFiles(folder).ok());
      std::filesystem::resize_file(folder + "/" + part, 2000);
      return set;
    };
    const Outcome run = Train(1, std::string("cut-") + part, options);
    EXPECT_EQ(run.status.code(), absl::StatusCode::kDataLoss);
    EXPECT_TRUE(IsPermanent(run.status));
    EXPECT_THAT(std::string(run.status.message()), AllOf(HasSubstr(part), HasSubstr("cut short")));
  }
}

TEST_F(TrainerInputTest, ALimitThatAFewRanksCannotKeepIsSaid) {
  v1::JobSpec spec = ImageSpec(R"({"numpy": {}, "memory_limit_bytes": 1000})");
  const Outcome run = Train(1, "limit", Streamed(spec));
  EXPECT_TRUE(IsPermanent(run.status));
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("dataset.memory_limit_bytes is 1000"));
}

}  // namespace
}  // namespace lockstep
