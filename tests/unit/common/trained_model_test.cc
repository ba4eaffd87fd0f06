// SPDX-License-Identifier: Apache-2.0
#include "common/model/trained_model.h"

#include <gmock/gmock.h>

#include <vector>

#include "absl/strings/str_replace.h"
#include "google/protobuf/text_format.h"
#include "lockstep/onnx/v1/onnx.pb.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

v1::JobSpec Spec() {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'a' seed: 7 model { layers { flatten {} } layers { dense { units: 2 } } initial_weights { path: 'x' } }"
      "loss { mean_squared_error {} } training { batch_size: 3 } resources { workers: 2 }",
      &spec));
  return spec;
}

class TrainedModelTest : public FolderTest {
 protected:
  std::map<std::string, std::string> Metadata() {
    return ModelMetadata(Spec(), Shape{2, 3}, {.sample_shape = {2, 3}, .scale = 0.5});
  }
  // Tensors of these shapes.
  void Save(const std::map<std::string, std::string>& metadata,
            const std::map<std::string, Shape>& shapes = {{"dense/kernel", {6, 2}}, {"dense/bias", {2}}}) {
    const std::vector<float> values(1000, 1.5f);
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, shape] : shapes) {
      const std::span<const float> part(values.data(), static_cast<size_t>(shape.elements()));
      tensors.push_back({name, "F32", shape, std::as_bytes(part)});
    }
    ASSERT_TRUE(WriteSafetensors(Path("model.safetensors"), tensors, metadata).ok());
  }
  absl::Status Error() { return ReadTrainedModel(folder_).status(); }
};

TEST_F(TrainedModelTest, ReadsBackWhatRebuildsTheModel) {
  Save(Metadata());
  for (const std::string& path : {folder_.string(), Path("model.safetensors")}) {
    const auto model = ReadTrainedModel(path);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->path, Path("model.safetensors"));
    EXPECT_EQ(model->plan.input, (Shape{2, 3}));
    EXPECT_EQ(model->plan.layers.size(), 2u);
    EXPECT_EQ(model->job.seed(), 7u);
    EXPECT_TRUE(model->job.loss().has_mean_squared_error());
    EXPECT_EQ(model->preprocessing.scale, 0.5);
  }
}

TEST_F(TrainedModelTest, IsFoundInTheFolderOfARunWithOneJob) {
  Save(Metadata());
  for (const char* job : {"jobs/a-1", "jobs/b-2"}) std::filesystem::create_directories(folder_ / job);
  std::filesystem::rename(Path("model.safetensors"), folder_ / "jobs/a-1/model.safetensors");
  EXPECT_EQ(TrainedModelFile(folder_).value(), Path("jobs/a-1/model.safetensors"));
  std::filesystem::copy(Path("jobs/a-1/model.safetensors"), Path("jobs/b-2/model.safetensors"));
  EXPECT_THAT(std::string(TrainedModelFile(folder_).status().message()), HasSubstr("jobs/a-1/model.safetensors"));
}

TEST_F(TrainedModelTest, SaysNothingOfWhereAndHowItWasTrained) {
  v1::JobSpec other = Spec();
  other.set_name("b");
  other.mutable_training()->set_batch_size(99);
  other.mutable_resources()->set_workers(7);
  other.mutable_model()->mutable_initial_weights()->set_path("/elsewhere");
  other.mutable_dataset()->mutable_idx()->set_path("/elsewhere");
  EXPECT_EQ(ModelJobText(other, Shape{2, 3}), ModelJobText(Spec(), Shape{2, 3}));
  other.set_seed(8);
  EXPECT_NE(ModelJobText(other, Shape{2, 3}), ModelJobText(Spec(), Shape{2, 3}));
}

TEST_F(TrainedModelTest, BecomesOnnxWithItsMetadata) {
  Save(Metadata());
  onnx::v1::ModelProto file;
  ASSERT_TRUE(file.ParseFromString(TrainedModelToOnnx(ReadTrainedModel(folder_).value()).value()));
  std::map<std::string, std::string> metadata;
  for (const auto& entry : file.metadata_props()) metadata[entry.key()] = entry.value();
  EXPECT_EQ(metadata, Metadata());
}

TEST_F(TrainedModelTest, MissingFilesAreToldFromDamagedOnes) {
  EXPECT_TRUE(absl::IsNotFound(Error())) << Error();
  EXPECT_TRUE(absl::IsNotFound(ReadTrainedModel(Path("none")).status()));
  Save({});
  EXPECT_TRUE(absl::IsNotFound(Error())) << Error();
  EXPECT_THAT(std::string(Error().message()), HasSubstr("trained elsewhere"));
  Write("model.safetensors", "junk");
  EXPECT_TRUE(absl::IsDataLoss(Error())) << Error();
}

TEST_F(TrainedModelTest, WhatDoesNotFitTogetherIsRefused) {
  auto metadata = Metadata();
  const std::string good = metadata[kJobKey];
  const auto with = [&](const std::string& from, const std::string& to) {
    metadata[kJobKey] = absl::StrReplaceAll(good, {{from, to}});
    EXPECT_NE(metadata[kJobKey], good) << from;
    Save(metadata);
    const absl::Status status = Error();
    EXPECT_TRUE(absl::IsDataLoss(status)) << from << " " << status;
    return std::string(status.message());
  };
  with("{\"", "[\"");
  EXPECT_THAT(with("dense", "denser"), HasSubstr("denser"));
  EXPECT_THAT(with("\"units\":\"2\"", "\"units\":\"0\""), HasSubstr("units"));
  EXPECT_THAT(with("\"units\":\"2\"", "\"units\":\"3\""), HasSubstr("dense/kernel"));
  for (const char* shape : {"[]", "[\"0\"]", "[\"-1\"]", "[\"4294967296\",\"4294967296\"]", "[1,1,1,1,1,1,1,1,1]"}) {
    EXPECT_THAT(with("[\"2\",\"3\"]", shape), HasSubstr("shape of a sample"));
  }
  EXPECT_THAT(with("mean_squared_error", "sparse_categorical_crossentropy"), HasSubstr("softmax"));
  EXPECT_THAT(with("{\"mean_squared_error\":{}}", "{}"), HasSubstr("loss"));
  Save(Metadata(), {{"dense/kernel", {6, 2}}});
  EXPECT_THAT(std::string(Error().message()), HasSubstr("dense/bias"));
  Save(Metadata(), {{"dense/kernel", {6, 2}}, {"dense/bias", {2}}, {"more", {1}}});
  EXPECT_THAT(std::string(Error().message()), HasSubstr("more"));
}

TEST_F(TrainedModelTest, PreprocessingThatDoesNotFitIsRefused) {
  const auto refused = [&](const Shape& sample, const Preprocessing& p) {
    v1::JobSpec spec = Spec();
    const int64_t width = sample.elements();
    Save(ModelMetadata(spec, sample, p), {{"dense/kernel", {width, 2}}, {"dense/bias", {2}}});
    const absl::Status status = Error();
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
    return !status.ok();
  };
  const Shape image{3, 2, 2};
  EXPECT_FALSE(refused(image, {.sample_shape = {3, 2, 2}, .mean = {0.5}, .stddev = {1, 2, 3}}));
  EXPECT_TRUE(refused(image, {.sample_shape = {12}}));
  EXPECT_TRUE(refused(image, {.sample_shape = {3, 2, 2}, .mean = {1, 2}, .stddev = {1, 2}}));
  EXPECT_TRUE(refused(image, {.sample_shape = {3, 2, 2}, .mean = {1}}));
  EXPECT_TRUE(refused(image, {.sample_shape = {3, 2, 2}, .mean = {1}, .stddev = {0}}));
  EXPECT_TRUE(refused(image, {.sample_shape = {3, 2, 2}, .mean = {1e300}, .stddev = {1}}));
  Preprocessing table{.sample_shape = {2}};
  table.table.emplace();
  table.table->features = {{.name = "a", .mean = {0}, .stddev = {1}}, {.name = "b", .mean = {0}, .stddev = {1}}};
  EXPECT_FALSE(refused({2}, table));
  table.table->classes = {"x", "y"};
  EXPECT_FALSE(refused({2}, table));
  table.table->classes.push_back("z");
  EXPECT_TRUE(refused({2}, table));
  table.table->classes.clear();
  table.table->features.pop_back();
  EXPECT_TRUE(refused({2}, table));
}

}  // namespace
}  // namespace lockstep
