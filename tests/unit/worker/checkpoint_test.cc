// SPDX-License-Identifier: Apache-2.0
// Whatever happens to a checkpoint's files, it is either whole or refused.
#include "worker/train/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/rng.h"
#include "worker/train/snapshot.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
void WriteAll(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "lockstep-checkpoint-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    device_ = MakeCpuDevice(1);
    v1::ModelSpec spec;
    spec.add_layers()->mutable_dense()->set_units(64);
    spec.add_layers()->mutable_dense()->set_units(10);
    Violations violations;
    const ModelPlan plan = PlanModel(spec, Shape{32}, violations);
    ASSERT_TRUE(violations.empty());
    v1::LossSpec loss;
    loss.mutable_sparse_categorical_crossentropy()->set_from_logits(true);
    model_ = Model::Create(device_.get(), plan, loss, DType::kF32, 8).value();
    model_->Initialize(3);
    v1::OptimizerSpec adam;
    adam.mutable_adam();
    optimizer_ = MakeOptimizer(adam, *device_, model_->parameters().elements(), DType::kF32).value();
    for (const auto& [name, tensor] : optimizer_->State()) {
      device_->RandomUniform(tensor, {.seed = 4}, 0.0, 1.0);
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path Save(int64_t step) {
    CheckpointImage image{.step = step, .generation = 1};
    image.trainer = Trainer(3);
    image.Capture(*device_, *model_, *optimizer_);
    const auto saved = SaveCheckpoint(folder_, image, model_->parameter_views(), {.newest = 3}, nullptr);
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved->path;
  }
  absl::Status Load(const fs::path& folder) {
    loaded_ = Trainer(0);
    return LoadCheckpoint(folder, *device_, *model_, *optimizer_, loaded_).status();
  }
  static TrainerState Trainer(int64_t rows) {
    return {.sums = {0.5, 7}, .rows = rows, .steps = 2, .extra = {static_cast<double>(rows) / 8}};
  }
  static std::vector<fs::path> Files(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    return files;
  }

  fs::path folder_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  TrainerState loaded_;
};

TEST_F(CheckpointTest, EveryTruncationIsFound) {
  const fs::path folder = Save(7);
  ASSERT_TRUE(Load(folder).ok());
  int tried = 0;
  for (const fs::path& file : Files(folder)) {
    const std::string bytes = ReadAll(file);
    for (size_t size = 0; size < bytes.size(); size += size < 64 ? 1 : 4096, ++tried) {
      WriteAll(file, bytes.substr(0, size));
      // A manifest may lose its last line break and nothing else.
      EXPECT_FALSE(Load(folder).ok()) << file << " cut to " << size << " of " << bytes.size();
    }
    WriteAll(file, bytes);
  }
  ASSERT_TRUE(Load(folder).ok());
  std::printf("truncations: %d, found: %d\n", tried, tried);
}

// A flip is found, or it changes nothing that is used: white space or the generation in the manifest.
TEST_F(CheckpointTest, NoBitFlipIsTakenForTheTruth) {
  const fs::path folder = Save(7);
  const std::vector<fs::path> files = Files(folder);
  const auto state = [&] {
    std::string bytes(model_->parameters().as<char>(), model_->parameters().bytes());
    for (const auto& [name, tensor] : optimizer_->State()) bytes.append(tensor.as<char>(), tensor.bytes());
    return bytes;
  };
  const std::string right = state();
  const RngStream stream{5, RngPurpose::kSynthetic, 0};
  constexpr int kFlips = 10'000;
  int found = 0;
  for (int i = 0; i < kFlips; ++i) {
    const fs::path& file = files[i % files.size()];
    std::string bytes = ReadAll(file);
    const uint64_t bit = static_cast<uint64_t>(stream.Uniform(i) * static_cast<double>(bytes.size() * 8));
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    WriteAll(file, bytes);
    TrainerState trainer = Trainer(0);
    const auto restored = LoadCheckpoint(folder, *device_, *model_, *optimizer_, trainer);
    found += restored.ok() ? 0 : 1;
    // The step is compared with the one that the coordinator asks for.
    if (restored.ok() && *restored == 7) {
      EXPECT_EQ(state(), right) << file << " bit " << bit;
    }
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    WriteAll(file, bytes);
  }
  EXPECT_GT(found, kFlips * 6 / 10);
  std::printf("bit flips: %d, found: %d, harmless: %d\n", kFlips, found, kFlips - found);
}

TEST_F(CheckpointTest, TheTrainersStateComesBack) {
  const fs::path folder = Save(7);
  ASSERT_TRUE(Load(folder).ok());
  EXPECT_EQ(loaded_.rows, 3);
  EXPECT_EQ(loaded_.steps, 2);
  EXPECT_EQ(loaded_.sums, Trainer(3).sums);
  EXPECT_EQ(loaded_.extra, Trainer(3).extra);
}

TEST_F(CheckpointTest, ATrainersStateOfAnotherLengthIsRefused) {
  const fs::path folder = Save(7);
  TrainerState longer = Trainer(0);
  longer.sums.push_back(0);
  const auto step = LoadCheckpoint(folder, *device_, *model_, *optimizer_, longer);
  EXPECT_EQ(step.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(step.status().message().find("other metrics"), std::string::npos) << step.status();
  const std::string path = folder_ / "snapshot";
  ASSERT_TRUE(SnapshotWriter::Create(path, device_.get(), model_.get(), optimizer_.get(), Trainer(0)).ok());
  EXPECT_FALSE(LoadSnapshot(path, 0, *device_, *model_, *optimizer_, longer).ok());
}

TEST(TrainerStateTest, CountsThatAreNoneAreRefused) {
  TrainerState state{.sums = {0}};
  for (const double bad : {-1.0, 1e300, std::nan("")}) {
    EXPECT_FALSE(state.Unpack(std::vector<double>{bad, 0, 0}).ok()) << bad;
    EXPECT_FALSE(state.Unpack(std::vector<double>{0, bad, 0}).ok()) << bad;
  }
  EXPECT_TRUE(state.Unpack(std::vector<double>{1, 1, 0}).ok());
}

TEST_F(CheckpointTest, ADamagedFolderOfTheSameStepIsReplaced) {
  const fs::path folder = Save(7);
  WriteAll(folder / "parameters.safetensors", "damaged");
  EXPECT_FALSE(Load(folder).ok());
  EXPECT_EQ(Save(7), folder);
  EXPECT_TRUE(Load(folder).ok());
}

TEST_F(CheckpointTest, WhatKilledGroupsLeftHalfDoneIsRemoved) {
  Save(7);
  const fs::path half = folder_ / "checkpoints" / "tmp-9-1";
  fs::create_directories(half);
  WriteAll(half / "parameters.safetensors", "half");
  Save(14);
  EXPECT_FALSE(fs::exists(half));
}

TEST_F(CheckpointTest, NoBitFlipInASnapshotIsTakenForTheTruth) {
  const std::string path = folder_ / "snapshot";
  auto writer = SnapshotWriter::Create(path, device_.get(), model_.get(), optimizer_.get(), Trainer(0));
  ASSERT_TRUE(writer.ok()) << writer.status();
  (*writer)->Write(0, 5, Trainer(3));
  (*writer)->Write(1, 6, Trainer(4));
  const std::string right(model_->parameters().as<char>(), model_->parameters().bytes());
  const std::string bytes = ReadAll(path);
  const RngStream stream{6, RngPurpose::kSynthetic, 0};
  int found = 0;
  for (int i = 0; i < 2'000; ++i) {
    std::string damaged = bytes;
    const uint64_t bit = static_cast<uint64_t>(stream.Uniform(i) * static_cast<double>(bytes.size() * 8));
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    WriteAll(path, damaged);
    TrainerState trainer = Trainer(0);
    const auto restored = LoadSnapshot(path, 6, *device_, *model_, *optimizer_, trainer);
    found += restored.ok() ? 0 : 1;
    if (!restored.ok()) continue;
    EXPECT_EQ(std::string(model_->parameters().as<char>(), model_->parameters().bytes()), right) << "bit " << bit;
    EXPECT_EQ(trainer.rows, 4);
    EXPECT_EQ(trainer.extra, Trainer(4).extra);
  }
  // About two thirds of the bits are in the other slots.
  EXPECT_GT(found, 400);
}

}  // namespace
}  // namespace lockstep
