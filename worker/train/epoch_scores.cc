// SPDX-License-Identifier: Apache-2.0
#include "worker/train/epoch_scores.h"

#include "absl/strings/strip.h"

namespace lockstep {

namespace {

void AddMetrics(const Scores& scores, google::protobuf::RepeatedPtrField<v1::MetricValue>& metrics) {
  for (const MetricResult& result : scores.metrics) {
    if (!result.reported) continue;
    v1::MetricValue& metric = *metrics.Add();
    metric.set_name(result.name);
    metric.set_value(result.value);
    metric.mutable_matrix()->Add(result.matrix.begin(), result.matrix.end());
  }
}

}  // namespace

std::optional<double> EpochScores::Find(std::string_view name) const {
  absl::string_view metric(name.data(), name.size());
  const Scores* scores = nullptr;
  if (absl::ConsumePrefix(&metric, "train_")) {
    scores = &train;
  } else if (absl::ConsumePrefix(&metric, "test_") && test.has_value()) {
    scores = &*test;
  }
  if (scores == nullptr) return std::nullopt;
  if (metric == "loss") return scores->loss;
  return scores->Find({metric.data(), metric.size()});
}

void EpochScores::Report(v1::EpochCompleted& epoch) const {
  epoch.set_train_loss(train.loss);
  AddMetrics(train, *epoch.mutable_train_metrics());
  if (const auto accuracy = train.Find("accuracy")) epoch.set_train_accuracy(*accuracy);
  if (!test.has_value()) return;
  epoch.set_test_loss(test->loss);
  AddMetrics(*test, *epoch.mutable_test_metrics());
  if (const auto accuracy = test->Find("accuracy")) epoch.set_test_accuracy(*accuracy);
  if (const auto r_squared = test->Find("r_squared")) epoch.set_test_r_squared(*r_squared);
}

}  // namespace lockstep
