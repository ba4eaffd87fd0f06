// SPDX-License-Identifier: Apache-2.0
// Losses and metrics that do not fit the job are refused, with what to do instead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/job_plan.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

auto Fault(const std::string& field, const std::string& what) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(what)));
}

const DatasetInfo kTenClasses{.sample = Shape{4}, .train_samples = 100, .classes = 10};
const DatasetInfo kTwoClasses{.sample = Shape{4}, .train_samples = 100, .classes = 2};
DatasetInfo Numbers(int64_t width) {
  return {.sample = Shape{4}, .train_samples = 100, .classification = false, .target_width = width};
}

// What is wrong with a job of this loss, last layer and metrics.
std::vector<Violation> Faults(const DatasetInfo& data, const std::string& loss, int64_t units,
                              const std::string& activation = "", const std::string& metrics = "[]") {
  Violations violations;
  const v1::JobSpec spec = ParseJobFile(
      absl::StrCat("{name: a, model: {layers: [{dense: {units: ", units, ", activation: \"", activation,
                   "\"}}]}, loss: {", loss, "}, metrics: ", metrics,
                   ", optimizer: {sgd: {}}, training: {batch_size: 10, epochs: 1}, resources: {workers: 1}}"),
      "x", violations);
  PlanJob(spec, &data, violations);
  return violations.list();
}

TEST(ValidateLossTest, RightOnesPass) {
  EXPECT_THAT(Faults(kTenClasses, "sparse_categorical_crossentropy: {label_smoothing: 0.1}", 10, "softmax"), IsEmpty());
  EXPECT_THAT(Faults(Numbers(3), "categorical_crossentropy: {from_logits: true, class_weights: [1, 0, 2]}", 3),
              IsEmpty());
  EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {}", 1, "sigmoid"), IsEmpty());
  EXPECT_THAT(Faults(Numbers(5), "binary_crossentropy: {from_logits: true}", 5), IsEmpty());
  EXPECT_THAT(Faults(kTwoClasses, "hinge: {}", 1), IsEmpty());
  EXPECT_THAT(Faults(Numbers(2), "huber: {delta: 2}", 2), IsEmpty());
  EXPECT_THAT(Faults(Numbers(2), "mean_absolute_error: {}", 2), IsEmpty());
  EXPECT_THAT(Faults(Numbers(4), "kl_divergence: {}", 4, "softmax"), IsEmpty());
}

TEST(ValidateLossTest, TargetsThatDoNotFit) {
  EXPECT_THAT(Faults(Numbers(10), "sparse_categorical_crossentropy: {from_logits: true}", 10),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy", "use categorical_crossentropy")));
  EXPECT_THAT(Faults(kTenClasses, "categorical_crossentropy: {from_logits: true}", 10),
              ElementsAre(Fault("loss.categorical_crossentropy", "use sparse_categorical_crossentropy")));
  EXPECT_THAT(Faults(kTenClasses, "binary_crossentropy: {from_logits: true}", 1),
              ElementsAre(Fault("loss.binary_crossentropy", "go up to 9")));
  EXPECT_THAT(Faults(kTwoClasses, "hinge: {}", 2), ElementsAre(Fault("loss.hinge", "use 1 unit")));
  EXPECT_THAT(Faults(Numbers(3), "hinge: {}", 2), ElementsAre(Fault("loss.hinge", "3 value(s)")));
  for (const char* loss : {"mean_squared_error", "mean_absolute_error", "huber"}) {
    EXPECT_THAT(Faults(kTenClasses, absl::StrCat(loss, ": {}"), 10),
                ElementsAre(Fault(absl::StrCat("loss.", loss), "needs numbers")));
    EXPECT_THAT(Faults(Numbers(2), absl::StrCat(loss, ": {}"), 3),
                ElementsAre(Fault(absl::StrCat("loss.", loss), "2 value(s)")));
  }
  EXPECT_THAT(Faults(kTenClasses, "kl_divergence: {}", 10, "softmax"),
              ElementsAre(Fault("loss.kl_divergence", "needs numbers")));
}

TEST(ValidateLossTest, OutputsThatDoNotFit) {
  EXPECT_THAT(Faults(kTenClasses, "sparse_categorical_crossentropy: {}", 10),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy.from_logits", "must end in a softmax")));
  EXPECT_THAT(Faults(Numbers(3), "categorical_crossentropy: {from_logits: true}", 3, "softmax"),
              ElementsAre(Fault("loss.categorical_crossentropy.from_logits", "remove one of the two")));
  EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {}", 1),
              ElementsAre(Fault("loss.binary_crossentropy.from_logits", "must end in a sigmoid")));
  EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {from_logits: true}", 1, "sigmoid"),
              ElementsAre(Fault("loss.binary_crossentropy.from_logits", "ends in a sigmoid")));
  EXPECT_THAT(Faults(Numbers(3), "kl_divergence: {}", 3),
              ElementsAre(Fault("loss.kl_divergence", "must end in a softmax")));
  EXPECT_THAT(Faults(Numbers(1), "categorical_crossentropy: {from_logits: true}", 1),
              ElementsAre(Fault("loss.categorical_crossentropy", "at least 2")));
}

TEST(ValidateLossTest, AttributesOutOfRange) {
  const std::string sparse = "sparse_categorical_crossentropy: {from_logits: true, ";
  for (const char* bad : {"-0.1", "1"}) {
    EXPECT_THAT(Faults(kTenClasses, absl::StrCat(sparse, "label_smoothing: ", bad, "}"), 10),
                ElementsAre(Fault("loss.sparse_categorical_crossentropy.label_smoothing", "below 1")))
        << bad;
  }
  EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {from_logits: true, label_smoothing: 2}", 1),
              ElementsAre(Fault("loss.binary_crossentropy.label_smoothing", "below 1")));
  EXPECT_THAT(Faults(kTwoClasses, sparse + "class_weights: [1, 2, 3]}", 2),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy.class_weights", "one for each class")));
  EXPECT_THAT(Faults(kTwoClasses, sparse + "class_weights: [1, -2]}", 2),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy.class_weights[1]", "at least 0")));
  EXPECT_THAT(Faults(kTwoClasses, sparse + "class_weights: [0, 0]}", 2),
              ElementsAre(Fault("loss.sparse_categorical_crossentropy.class_weights", "all 0")));
  for (const char* bad : {"0", "-1"}) {
    EXPECT_THAT(Faults(Numbers(1), absl::StrCat("huber: {delta: ", bad, "}"), 1),
                ElementsAre(Fault("loss.huber.delta", "greater than 0")))
        << bad;
  }
  EXPECT_THAT(Faults(Numbers(1), "", 1), ElementsAre(Fault("loss", "is missing")));
}

// A job file cannot hold it, but a message can.
TEST(ValidateLossTest, WhatIsNoNumberIsRefused) {
  const double nan = std::nan("");
  v1::JobSpec spec;
  spec.mutable_loss()->mutable_huber()->set_delta(nan);
  const auto fields = [&] {
    Violations violations;
    PlanJob(spec, &kTwoClasses, violations);
    std::vector<std::string> names;
    for (const Violation& v : violations.list()) names.push_back(v.field);
    return names;
  };
  EXPECT_THAT(fields(), testing::Contains("loss.huber.delta"));
  v1::BinaryCrossentropyLoss& loss = *spec.mutable_loss()->mutable_binary_crossentropy();
  loss.set_label_smoothing(nan);
  spec.add_metrics()->mutable_recall()->set_threshold(nan);
  EXPECT_THAT(fields(),
              testing::IsSupersetOf({"loss.binary_crossentropy.label_smoothing", "metrics[0].recall.threshold"}));
  spec.mutable_loss()->mutable_sparse_categorical_crossentropy()->add_class_weights(nan);
  EXPECT_THAT(fields(), testing::Contains("loss.sparse_categorical_crossentropy.class_weights[0]"));
}

TEST(ValidateMetricsTest, RightOnesPass) {
  EXPECT_THAT(Faults(kTenClasses, "sparse_categorical_crossentropy: {from_logits: true}", 10, "",
                     "[{accuracy: {}}, {top_k_accuracy: {}}, {precision: {}}, {recall: {}}, {f1_score: {}}, {auc: {}}, "
                     "{confusion_matrix: {}}, {perplexity: {}}, {gradient_norm: {}}]"),
              IsEmpty());
  EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {}", 1, "sigmoid",
                     "[{accuracy: {}}, {binary_accuracy: {threshold: 0}}, {precision: {threshold: 1}}, {recall: {}}, "
                     "{f1_score: {}}, {auc: {num_thresholds: 4096}}, {confusion_matrix: {}}]"),
              IsEmpty());
  EXPECT_THAT(
      Faults(Numbers(2), "huber: {}", 2, "", "[{mean_squared_error: {}}, {mean_absolute_error: {}}, {r_squared: {}}]"),
      IsEmpty());
}

TEST(ValidateMetricsTest, OnesThatDoNotFitAreRefused) {
  for (const char* metric : {"accuracy", "top_k_accuracy", "precision", "recall", "f1_score", "auc", "confusion_matrix",
                             "binary_accuracy", "perplexity"}) {
    EXPECT_THAT(Faults(Numbers(2), "mean_squared_error: {}", 2, "", absl::StrCat("[{", metric, ": {}}]")),
                ElementsAre(Fault(absl::StrCat("metrics[0].", metric), "")));
  }
  const std::string classes = "sparse_categorical_crossentropy: {from_logits: true}";
  for (const char* metric : {"mean_squared_error", "mean_absolute_error", "r_squared", "binary_accuracy"}) {
    EXPECT_THAT(Faults(kTenClasses, classes, 10, "", absl::StrCat("[{gradient_norm: {}}, {", metric, ": {}}]")),
                ElementsAre(Fault(absl::StrCat("metrics[1].", metric), "use accuracy")));
  }
  EXPECT_THAT(Faults(Numbers(3), "binary_crossentropy: {from_logits: true}", 3, "",
                     "[{accuracy: {}}, {top_k_accuracy: {}}, {confusion_matrix: {}}, {perplexity: {}}]"),
              ElementsAre(Fault("metrics[0].accuracy", "use binary_accuracy"),
                          Fault("metrics[1].top_k_accuracy", "use binary_accuracy"),
                          Fault("metrics[2].confusion_matrix", "precision and recall"),
                          Fault("metrics[3].perplexity", "leave it out")));
  EXPECT_THAT(Faults(kTwoClasses, "hinge: {}", 1, "", "[{auc: {}}, {precision: {threshold: 0.5}}]"),
              ElementsAre(Fault("metrics[0].auc", "probabilities"), Fault("metrics[1].precision.threshold", "leave")));
}

TEST(ValidateMetricsTest, AttributesOutOfRange) {
  const std::string classes = "sparse_categorical_crossentropy: {from_logits: true}";
  for (const char* k : {"-1", "10", "11"}) {
    EXPECT_THAT(Faults(kTenClasses, classes, 10, "", absl::StrCat("[{top_k_accuracy: {k: ", k, "}}]")),
                ElementsAre(Fault("metrics[0].top_k_accuracy.k", "below the number of classes, 10")));
  }
  EXPECT_THAT(Faults(kTwoClasses, classes, 2, "", "[{top_k_accuracy: {}}]"),
              ElementsAre(Fault("metrics[0].top_k_accuracy.k", "5 by default")));
  EXPECT_THAT(Faults(kTenClasses, classes, 10, "", "[{recall: {threshold: 0.5}}]"),
              ElementsAre(Fault("metrics[0].recall.threshold", "leave it out")));
  for (const char* threshold : {"-0.5", "1.5"}) {
    EXPECT_THAT(Faults(kTwoClasses, "binary_crossentropy: {from_logits: true}", 1, "",
                       absl::StrCat("[{f1_score: {threshold: ", threshold, "}}]")),
                ElementsAre(Fault("metrics[0].f1_score.threshold", "at most 1")));
  }
  for (const char* thresholds : {"-1", "1", "4097"}) {
    EXPECT_THAT(Faults(kTenClasses, classes, 10, "", absl::StrCat("[{auc: {num_thresholds: ", thresholds, "}}]")),
                ElementsAre(Fault("metrics[0].auc.num_thresholds", "at most 4096")));
  }
  EXPECT_THAT(Faults(kTenClasses, classes, 101, "", "[{confusion_matrix: {}}]"),
              ElementsAre(Fault("metrics[0].confusion_matrix", "at most 100")));
  EXPECT_THAT(Faults(kTenClasses, classes, 10, "", "[{accuracy: {}}, {accuracy: {}}, {}]"),
              ElementsAre(Fault("metrics[1].accuracy", "twice"), Fault("metrics[2]", "names no metric")));
}

}  // namespace
}  // namespace lockstep
