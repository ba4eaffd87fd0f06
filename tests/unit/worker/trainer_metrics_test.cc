// SPDX-License-Identifier: Apache-2.0
// What an epoch reports does not depend on how many ranks there are or which of them went away.
#include <gmock/gmock.h>

#include <numeric>

#include "tests/unit/worker/trainer_fixture.h"

namespace lockstep {
namespace {

constexpr char kAllOfClasses[] =
    R"([{"gradient_norm": {}}, {"accuracy": {}}, {"top_k_accuracy": {"k": 1}}, {"precision": {}}, {"recall": {}},
        {"f1_score": {}}, {"auc": {}}, {"confusion_matrix": {}}, {"perplexity": {}}])";
constexpr char kAllOfNumbers[] =
    R"([{"mean_squared_error": {}}, {"mean_absolute_error": {}}, {"r_squared": {}}, {"gradient_norm": {}}])";

// The blobs' job with another loss and metrics; `units`: of the last layer.
v1::JobSpec Spec(const std::string& loss, const std::string& metrics, int64_t units = 2,
                 const std::string& activation = "") {
  v1::JobSpec spec = BlobSpec();
  v1::JobSpec part;
  const auto status =
      google::protobuf::util::JsonStringToMessage(R"({"loss": {)" + loss + R"(}, "metrics": )" + metrics + "}", &part);
  EXPECT_TRUE(status.ok()) << status.ToString();
  *spec.mutable_loss() = part.loss();
  *spec.mutable_metrics() = part.metrics();
  spec.mutable_model()->mutable_layers(2)->mutable_dense()->set_units(units);
  spec.mutable_model()->mutable_layers(2)->mutable_dense()->set_activation(activation);
  return spec;
}

std::vector<std::string> Names(const google::protobuf::RepeatedPtrField<v1::MetricValue>& metrics) {
  std::vector<std::string> names;
  for (const v1::MetricValue& metric : metrics) names.push_back(metric.name());
  return names;
}

const v1::MetricValue& Of(const google::protobuf::RepeatedPtrField<v1::MetricValue>& metrics, const std::string& name) {
  for (const v1::MetricValue& metric : metrics) {
    if (metric.name() == name) return metric;
  }
  return v1::MetricValue::default_instance();
}

struct Case {
  std::string name;
  v1::JobSpec spec;
  bool numbers = false;
};

std::vector<Case> Cases() {
  const std::string sides =
      R"([{"accuracy": {}}, {"binary_accuracy": {}}, {"precision": {}}, {"recall": {}}, {"f1_score": {}},
          {"confusion_matrix": {}}])";
  return {
      {"sparse", Spec(R"("sparse_categorical_crossentropy": {"from_logits": true})", kAllOfClasses)},
      {"sparse_weighted",
       Spec(R"("sparse_categorical_crossentropy": {"label_smoothing": 0.1, "class_weights": [1, 2]})", kAllOfClasses, 2,
            "softmax")},
      {"categorical", Spec(R"("categorical_crossentropy": {})", kAllOfClasses, 2, "softmax"), true},
      {"binary_label", Spec(R"("binary_crossentropy": {})", sides, 1, "sigmoid")},
      {"binary_numbers",
       Spec(R"("binary_crossentropy": {"from_logits": true})", R"([{"binary_accuracy": {}}, {"auc": {}}])"), true},
      {"squared", Spec(R"("mean_squared_error": {})", kAllOfNumbers), true},
      {"absolute", Spec(R"("mean_absolute_error": {})", kAllOfNumbers), true},
      {"huber", Spec(R"("huber": {"delta": 0.5})", kAllOfNumbers), true},
      {"hinge", Spec(R"("hinge": {})", sides, 1)},
      {"kl", Spec(R"("kl_divergence": {})", R"([{"accuracy": {}}, {"auc": {}}])", 2, "softmax"), true},
  };
}

class TrainerMetricsTest : public TrainerTest, public ::testing::WithParamInterface<Case> {};

TEST_P(TrainerMetricsTest, AnyNumberOfRanksReportsTheSameBits) {
  const TrainOptions options{.numbers = GetParam().numbers, .spec = GetParam().spec};
  const Outcome one = Train(1, "one", options);
  ASSERT_TRUE(one.status.ok()) << one.status;
  const auto epochs = Epochs(one);
  ASSERT_EQ(epochs.size(), 3u);
  EXPECT_LT(epochs[2].train_loss(), epochs[0].train_loss());
  for (const int ranks : {2, 3, 4}) {
    const Outcome many = Train(ranks, std::to_string(ranks), options);
    EXPECT_EQ(many.model_sha256, one.model_sha256) << ranks;
    const auto others = Epochs(many);
    ASSERT_EQ(others.size(), 3u);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(others[i].SerializeAsString(), epochs[i].SerializeAsString()) << ranks << " ranks, epoch " << i + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Losses, TrainerMetricsTest, ::testing::ValuesIn(Cases()),
                         [](const auto& p) { return p.param.name; });

using MetricsReportTest = TrainerTest;

TEST_F(MetricsReportTest, WhatWasAskedForIsReportedInItsOrder) {
  const auto epochs = Epochs(
      Train(2, "all", {.spec = Spec(R"("sparse_categorical_crossentropy": {"from_logits": true})", kAllOfClasses)}));
  ASSERT_EQ(epochs.size(), 3u);
  const v1::EpochCompleted& last = epochs.back();
  EXPECT_THAT(Names(last.train_metrics()),
              ::testing::ElementsAre("gradient_norm", "accuracy", "top_k_accuracy", "precision", "recall", "f1_score",
                                     "auc", "confusion_matrix", "perplexity"));
  // There is no gradient of held-out data.
  EXPECT_THAT(Names(last.test_metrics()), ::testing::ElementsAre("accuracy", "top_k_accuracy", "precision", "recall",
                                                                 "f1_score", "auc", "confusion_matrix", "perplexity"));
  EXPECT_GT(Of(last.train_metrics(), "gradient_norm").value(), 0);
  EXPECT_EQ(Of(last.train_metrics(), "accuracy").value(), last.train_accuracy());
  EXPECT_EQ(Of(last.test_metrics(), "accuracy").value(), last.test_accuracy());
  EXPECT_EQ(Of(last.test_metrics(), "top_k_accuracy").value(), last.test_accuracy());
  EXPECT_NEAR(Of(last.test_metrics(), "perplexity").value(), std::exp(last.test_loss()), 1e-12);
  const auto samples = [](const v1::MetricValue& m) {
    EXPECT_EQ(m.matrix_size(), 4);
    return std::accumulate(m.matrix().begin(), m.matrix().end(), 0.0);
  };
  EXPECT_EQ(samples(Of(last.train_metrics(), "confusion_matrix")), 750);
  EXPECT_EQ(samples(Of(last.test_metrics(), "confusion_matrix")), 250);
  EXPECT_EQ(last.learning_rate(), 0.01);
}

TEST_F(MetricsReportTest, WithoutAskingThereIsOne) {
  const auto epochs = Epochs(Train(1, "default"));
  EXPECT_THAT(Names(epochs.back().train_metrics()), ::testing::ElementsAre("accuracy"));
  EXPECT_THAT(Names(epochs.back().test_metrics()), ::testing::ElementsAre("accuracy"));
}

TEST_F(MetricsReportTest, TheFieldsOfTheEpochAreFilledWhateverWasAskedFor) {
  const auto epochs = Epochs(
      Train(1, "other",
            {.spec = Spec(R"("sparse_categorical_crossentropy": {"from_logits": true})", R"([{"recall": {}}])")}));
  EXPECT_THAT(Names(epochs.back().test_metrics()), ::testing::ElementsAre("recall"));
  EXPECT_GT(epochs.back().test_accuracy(), 0.8);
  const auto numbers = Epochs(
      Train(1, "numbers", {.numbers = true, .spec = Spec(R"("huber": {})", R"([{"mean_absolute_error": {}}])")}));
  EXPECT_TRUE(numbers.back().has_test_r_squared());
  EXPECT_FALSE(numbers.back().has_test_accuracy());
}

TEST_F(MetricsReportTest, AnEpochThatWasInterruptedIsReportedWhole) {
  const TrainOptions options{.spec =
                                 Spec(R"("sparse_categorical_crossentropy": {"from_logits": true})", kAllOfClasses)};
  const auto whole = Epochs(Train(2, "whole", options));
  TrainOptions first = options;
  first.stop_at = 41;
  first.snapshot_path = folder_ / "snapshot";
  ASSERT_EQ(Train(3, "parts", first).result.step, 42);
  TrainOptions from_checkpoint = options, from_snapshot = options;
  from_checkpoint.first_step = from_snapshot.first_step = 42;
  from_checkpoint.resume_checkpoint = folder_ / "parts" / "checkpoints" / "step-42";
  from_snapshot.resume_snapshot = folder_ / "snapshot";
  for (const TrainOptions& rest : {from_checkpoint, from_snapshot}) {
    const auto epochs = Epochs(Train(4, "parts", rest));
    ASSERT_EQ(epochs.size(), 2u);
    EXPECT_EQ(epochs[0].SerializeAsString(), whole[1].SerializeAsString());
    EXPECT_EQ(epochs[1].SerializeAsString(), whole[2].SerializeAsString());
  }
}

TEST_F(MetricsReportTest, StepsThatWereNotAppliedCountNowhere) {
  v1::JobSpec spec = Spec(R"("sparse_categorical_crossentropy": {"from_logits": true})", kAllOfClasses);
  spec.mutable_training()->set_non_finite(v1::NON_FINITE_POLICY_SKIP_STEP);
  const auto epochs = Epochs(Train(2, "skip", {.poisoned = true, .spec = spec}));
  ASSERT_EQ(epochs.size(), 3u);
  const v1::MetricValue& matrix = Of(epochs[0].train_metrics(), "confusion_matrix");
  // One step of 24 samples is left out of 750.
  EXPECT_EQ(std::accumulate(matrix.matrix().begin(), matrix.matrix().end(), 0.0), 726);
  EXPECT_TRUE(std::isfinite(Of(epochs[0].train_metrics(), "gradient_norm").value()));
}

}  // namespace
}  // namespace lockstep
