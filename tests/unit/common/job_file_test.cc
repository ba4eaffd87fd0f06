// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "common/model/job_plan.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto Fault(const std::string& field, const std::string& part) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

std::vector<Violation> Faults(const std::string& text) {
  Violations violations;
  ParseJobFile(text, "job.yaml", violations);
  return violations.list();
}

std::string Examples() { return std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/examples"; }

TEST(JobFileTest, EveryExampleIsRight) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Examples())) {
    if (entry.path().extension() != ".yaml") continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    Violations violations;
    const v1::JobSpec spec = ParseJobFile(text.str(), entry.path().filename(), violations);
    EXPECT_THAT(violations.list(), IsEmpty()) << entry.path();
    const bool csv = spec.dataset().has_csv();
    const DatasetInfo info{.sample = csv                          ? Shape{8}
                                     : spec.dataset().has_cifar() ? Shape{3, 32, 32}
                                                                  : Shape{28, 28},
                           .train_samples = 60000,
                           .test_samples = 10000,
                           .classification = !csv};
    PlanJob(spec, &info, violations);
    for (const Violation& v : violations.list())
      ADD_FAILURE() << entry.path() << " " << v.field << " " << v.description;
    ++count;
  }
  EXPECT_GE(count, 4);
}

TEST(JobFileTest, UnknownAndMistypedFieldsAreAllNamedWithTheirPlace) {
  EXPECT_THAT(
      Faults("name: a\n"
             "modle: {}\n"
             "training:\n"
             "  batch_size: many\n"
             "  epochs: [3]\n"
             "model:\n"
             "  layers:\n"
             "    - dense: {unit: 3}\n"
             "    - dropout: 0.2\n"),
      ElementsAre(Fault("modle", "did you mean \"model\"? (job.yaml:2:1)"),
                  Fault("training.batch_size", "must be a whole number, not \"many\" (job.yaml:4:15)"),
                  Fault("training.epochs", "not a list (job.yaml:5:11)"),
                  Fault("model.layers[0].dense.unit", "did you mean \"units\"? (job.yaml:8:15)"),
                  Fault("model.layers[1].dropout", "must be a mapping (name: value), not \"0.2\" (job.yaml:9:16)")));
}

TEST(JobFileTest, TwoKindsOfOneLayerAndDoubleKeysAreRefused) {
  EXPECT_THAT(Faults("model: {layers: [{relu: {}, tanh: {}}]}"),
              ElementsAre(Fault("model.layers[0].tanh", "only one kind may be given")));
  EXPECT_THAT(Faults("seed: 1\nseed: 2\n"), ElementsAre(Fault("seed", "given twice")));
}

TEST(JobFileTest, EnumsTakeTheFullAndTheShortName) {
  for (const char* name : {"MISSING_VALUE_POLICY_MEAN", "MEAN", "mean"}) {
    Violations violations;
    const auto spec = ParseJobFile(absl::StrCat("dataset: {csv: {missing_values: ", name, "}}"), "x", violations);
    EXPECT_TRUE(violations.empty());
    EXPECT_EQ(spec.dataset().csv().missing_values(), v1::MISSING_VALUE_POLICY_MEAN);
  }
  EXPECT_THAT(Faults("dataset: {csv: {missing_values: meen}}"),
              ElementsAre(Fault("dataset.csv.missing_values", "did you mean \"MEAN\"?")));
}

TEST(JobFileTest, JsonAndCamelCaseAreTheSameFile) {
  Violations violations;
  const auto spec = ParseJobFile(R"({"name": "x", "training": {"batchSize": "32"}, "seed": "18446744073709551615"})",
                                 "x.json", violations);
  EXPECT_TRUE(violations.empty());
  EXPECT_EQ(spec.training().batch_size(), 32);
  EXPECT_EQ(spec.seed(), UINT64_MAX);
}

TEST(JobFileTest, HostileTextIsRefused) {
  EXPECT_THAT(Faults(""), ElementsAre(Fault("job", "empty")));
  EXPECT_THAT(Faults("a: [1, 2"), ElementsAre(Fault("job", "not valid YAML")));
  EXPECT_THAT(Faults("name: &x a\nmodel: *x\n"), ElementsAre(Fault("job", "anchors")));
  EXPECT_THAT(Faults(std::string(5000, '[')), ElementsAre(Fault("job", "nested too deeply")));
  EXPECT_THAT(Faults(std::string((1 << 20) + 1, 'a')), ElementsAre(Fault("job", "1 MiB")));
  EXPECT_THAT(Faults("name: a\n---\nname: b\n"), ElementsAre(Fault("job", "one document")));
  EXPECT_THAT(Faults("- a\n"), ElementsAre(Fault("job", "must be a mapping")));
  EXPECT_FALSE(Faults(std::string("\0\xff\xfe{", 4)).empty());
}

class PlanTest : public ::testing::Test {
 protected:
  std::vector<Violation> Plan(const std::string& yaml) {
    Violations violations;
    const v1::JobSpec spec = ParseJobFile(yaml, "x", violations);
    const DatasetInfo info{.sample = Shape{28, 28}, .train_samples = 100, .test_samples = 10};
    plan_ = PlanJob(spec, &info, violations);
    return violations.list();
  }
  // A right job with other layers.
  static std::string With(const std::string& layers) {
    return absl::StrCat("{name: a, model: {layers: ", layers,
                        "}, loss: {sparse_categorical_crossentropy: {from_logits: true}}, optimizer: {sgd: {}}, "
                        "training: {batch_size: 10, epochs: 1}, resources: {workers: 1}}");
  }
  JobPlan plan_;
};

TEST_F(PlanTest, TheLecturesNetworkHas13002Parameters) {
  EXPECT_THAT(Plan(With("[{flatten: {}}, {dense: {units: 16, activation: relu}}, {dense: {units: 16, activation: "
                        "relu}}, {dense: {units: 10}}]")),
              IsEmpty());
  EXPECT_EQ(plan_.model.parameter_count(), 13002);
  EXPECT_EQ(plan_.model.layers.size(), 6u);
  EXPECT_EQ(plan_.model.layers[1].parameters[0].name, "dense/kernel");
  EXPECT_EQ(plan_.model.layers[2].name, "dense/relu");
  EXPECT_EQ(plan_.model.layers[3].name, "dense_1");
  EXPECT_EQ(plan_.total_steps, 10);
}

TEST_F(PlanTest, AllFaultsComeAtOnce) {
  EXPECT_THAT(
      Plan("{name: Bad_Name, model: {layers: [{flatten: {}}, {dense: {units: 0, activation: rulu}}]}, "
           "loss: {sparse_categorical_crossentropy: {}}, optimizer: {sgd: {learning_rate: -1}}, "
           "training: {batch_size: 1000, epochs: 0, logical_shards: 3}}"),
      ElementsAre(Fault("name", "1 to 63"), Fault("model.layers[1].dense.units", "at least 1"),
                  Fault("model.layers[1].dense.activation", "did you mean \"relu\"?"),
                  Fault("optimizer.sgd.learning_rate", "greater than 0"), Fault("resources.workers", "at least 1"),
                  Fault("training.epochs", "at least 1"), Fault("training.logical_shards", "power of two"),
                  Fault("training.batch_size", "more than the 100 training samples")));
}

TEST_F(PlanTest, ShapesThatDoNotFit) {
  EXPECT_THAT(Plan(With("[{dense: {units: 10}}]")), ElementsAre(Fault("model.layers[0]", "put a flatten layer")));
  EXPECT_THAT(Plan(With("[{flatten: {}}, {dense: {units: 9000000000}}]")),
              ElementsAre(Fault("model.layers[1].dense.units", "at least 1")));
  EXPECT_THAT(Plan(With("[{flatten: {}}, {dense: {units: 1}}]")),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy", "at least 2")));
  EXPECT_THAT(Plan(With("[{flatten: {}}, {}]")), ElementsAre(Fault("model.layers[1]", "has no kind")));
  EXPECT_THAT(Plan(With("[{flatten: {}}, {dense: {units: 10}}, {dropout: {rate: 1}}]")),
              ElementsAre(Fault("model.layers[2].dropout.rate", "below 1")));
}

TEST_F(PlanTest, HowToSaveAndCompareMustMakeSense) {
  v1::JobSpec spec;
  spec.mutable_training()->set_checkpoint_interval_steps(-1);
  spec.mutable_training()->set_keep_checkpoints(-1);
  spec.mutable_training()->set_digest_interval_steps(-1);
  spec.mutable_training()->set_non_finite(static_cast<v1::NonFinitePolicy>(9));
  spec.mutable_training()->set_precision(static_cast<v1::Precision>(9));
  spec.mutable_resources()->set_device(static_cast<v1::Device>(9));
  Violations violations;
  PlanJob(spec, nullptr, violations);
  EXPECT_THAT(
      violations.list(),
      testing::IsSupersetOf(
          {Fault("training.checkpoint_interval_steps", "negative"), Fault("training.keep_checkpoints", "negative"),
           Fault("training.digest_interval_steps", "negative"), Fault("training.non_finite", "SKIP_STEP"),
           Fault("training.precision", "MIXED_BFLOAT16"), Fault("resources.device", "DEVICE_CUDA")}));
}

TEST_F(PlanTest, Tf32NeedsAJobThatGetsAGpu) {
  for (const v1::Device device : {v1::DEVICE_UNSPECIFIED, v1::DEVICE_AUTO, v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
    v1::JobSpec spec;
    spec.mutable_training()->set_precision(v1::PRECISION_TF32);
    spec.mutable_resources()->set_device(device);
    Violations violations;
    PlanJob(spec, nullptr, violations);
    const auto fault = testing::Contains(Fault("training.precision", "DEVICE_CUDA"));
    if (device == v1::DEVICE_CUDA) {
      EXPECT_THAT(violations.list(), testing::Not(fault));
    } else {
      EXPECT_THAT(violations.list(), fault);
    }
  }
}

TEST_F(PlanTest, PrecisionsOfGpusNeedOne) {
  v1::JobSpec spec;
  for (const v1::Precision precision : {v1::PRECISION_TF32, v1::PRECISION_MIXED_FLOAT16}) {
    spec.mutable_training()->set_precision(precision);
    for (const v1::Device device : {v1::DEVICE_UNSPECIFIED, v1::DEVICE_AUTO, v1::DEVICE_CPU, v1::DEVICE_CUDA}) {
      spec.mutable_resources()->set_device(device);
      Violations violations;
      PlanJob(spec, nullptr, violations);
      const auto refused = testing::Contains(Fault("training.precision", "set resources.device to DEVICE_CUDA"));
      if (device == v1::DEVICE_CUDA) {
        EXPECT_THAT(violations.list(), testing::Not(refused));
      } else {
        EXPECT_THAT(violations.list(), refused);
      }
    }
  }
}

TEST_F(PlanTest, ALossScaleIsAPowerOfTwoAndOfFloat16Alone) {
  v1::JobSpec spec;
  spec.mutable_resources()->set_device(v1::DEVICE_CUDA);
  spec.mutable_training()->mutable_loss_scale()->set_initial_scale(1000);
  spec.mutable_training()->mutable_loss_scale()->set_growth_steps(-1);
  Violations wrong;
  PlanJob(spec, nullptr, wrong);
  EXPECT_THAT(wrong.list(), testing::IsSupersetOf({Fault("training.loss_scale", "MIXED_FLOAT16"),
                                                   Fault("training.loss_scale.initial_scale", "power of two"),
                                                   Fault("training.loss_scale.growth_steps", "negative")}));
  spec.mutable_training()->set_precision(v1::PRECISION_MIXED_FLOAT16);
  spec.mutable_training()->mutable_loss_scale()->set_growth_steps(0);
  for (const double scale : {0.0, 1.0, 32768.0, 16777216.0}) {
    spec.mutable_training()->mutable_loss_scale()->set_initial_scale(scale);
    Violations right;
    PlanJob(spec, nullptr, right);
    EXPECT_THAT(right.list(), testing::Not(testing::Contains(Fault("training.loss_scale", ""))));
    EXPECT_THAT(right.list(), testing::Not(testing::Contains(Fault("training.loss_scale.initial_scale", ""))));
  }
}

TEST_F(PlanTest, AMillionLayersAreOneFault) {
  v1::JobSpec spec;
  for (int i = 0; i < 1'000'000; ++i) spec.mutable_model()->add_layers()->mutable_relu();
  const DatasetInfo info{.sample = Shape{28, 28}, .train_samples = 100, .test_samples = 10};
  Violations violations;
  PlanModel(spec.model(), info.sample, violations);
  EXPECT_THAT(violations.list(), ElementsAre(Fault("model.layers", "has 1000000 layers")));
}

TEST_F(PlanTest, DefaultShardsAreThePowerOfTwoThatHoldsTheWorkers) {
  for (const auto& [workers, shards] : {std::pair{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}}) {
    std::string yaml = With("[{flatten: {}}, {dense: {units: 10}}]");
    yaml.replace(yaml.find("workers: 1"), 10, absl::StrCat("workers: ", workers));
    EXPECT_THAT(Plan(yaml), IsEmpty());
    EXPECT_EQ(plan_.logical_shards, shards);
  }
}

}  // namespace
}  // namespace lockstep
