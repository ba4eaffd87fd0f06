// SPDX-License-Identifier: Apache-2.0
// Bad optimizers, schedules and initialisers are refused with the place and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/model/checks.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep {
namespace {

struct BadCase {
  // JSON of the part.
  std::string json;
  std::string field;
  std::string text;
};

template <typename Message>
Message Parse(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << json << status.ToString();
  return message;
}

std::vector<Violation> Check(const v1::OptimizerSpec& spec) {
  ModelPlan model;
  model.layers.resize(1);
  model.layers[0].parameters = {{.name = "dense/kernel", .shape = Shape{2, 3}},
                                {.name = "dense/bias", .shape = Shape{3}}};
  v1::JobSpec job;
  *job.mutable_optimizer() = spec;
  Violations violations;
  CheckOptimizer(job, &model, violations);
  return violations.list();
}
std::vector<Violation> Check(const v1::ScheduleSpec& spec) {
  v1::JobSpec job;
  *job.mutable_schedule() = spec;
  Violations violations;
  CheckSchedule(job, violations);
  return violations.list();
}

template <typename Message>
void ExpectRefused(const std::vector<BadCase>& cases) {
  for (const BadCase& bad : cases) {
    const auto list = Check(Parse<Message>(bad.json));
    ASSERT_EQ(list.size(), 1u) << bad.json;
    EXPECT_EQ(list[0].field, bad.field) << bad.json;
    EXPECT_THAT(list[0].description, testing::HasSubstr(bad.text)) << bad.json;
  }
}

// Every kind of the oneof is among the refused, by the first key of a case.
template <typename Message>
void ExpectEveryKind(const std::vector<BadCase>& cases, std::set<std::string> without_fields = {}) {
  std::set<std::string> kinds = std::move(without_fields);
  for (const BadCase& bad : cases) kinds.insert(bad.json.substr(2, bad.json.find('"', 2) - 2));
  const auto* oneof = Message::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    EXPECT_TRUE(kinds.contains(oneof->field(i)->name())) << oneof->field(i)->name();
  }
}

const std::vector<BadCase> kOptimizers{
    {R"({"sgd": {"learning_rate": 0}})", "optimizer.sgd.learning_rate", "greater than 0"},
    {R"({"sgd": {"momentum": 1}})", "optimizer.sgd.momentum", "below 1"},
    {R"({"sgd": {"nesterov": true}})", "optimizer.sgd.nesterov", "needs a momentum"},
    {R"({"adam": {"learning_rate": "Infinity"}})", "optimizer.adam.learning_rate", "greater than 0"},
    {R"({"adam": {"beta_1": -0.1}})", "optimizer.adam.beta_1", "at least 0"},
    {R"({"adam": {"beta_2": "NaN"}})", "optimizer.adam.beta_2", "below 1"},
    {R"({"adam": {"epsilon": 0}})", "optimizer.adam.epsilon", "greater than 0"},
    {R"({"adamw": {"beta_1": 1}})", "optimizer.adamw.beta_1", "below 1"},
    {R"({"nadam": {"epsilon": -1}})", "optimizer.nadam.epsilon", "greater than 0"},
    {R"({"lamb": {"beta_2": 2}})", "optimizer.lamb.beta_2", "below 1"},
    {R"({"adagrad": {"initial_accumulator_value": -1}})", "optimizer.adagrad.initial_accumulator_value", "at least 0"},
    {R"({"adagrad": {"epsilon": 0}})", "optimizer.adagrad.epsilon", "greater than 0"},
    {R"({"rmsprop": {"rho": 1}})", "optimizer.rmsprop.rho", "below 1"},
    {R"({"rmsprop": {"momentum": -1}})", "optimizer.rmsprop.momentum", "at least 0"},
    {R"({"rmsprop": {"epsilon": 0}})", "optimizer.rmsprop.epsilon", "greater than 0"},
    {R"({"lion": {"beta_1": 1}})", "optimizer.lion.beta_1", "below 1"},
    {R"({"lion": {"beta_2": -1}})", "optimizer.lion.beta_2", "at least 0"},
    {R"({"lars": {"momentum": 1}})", "optimizer.lars.momentum", "below 1"},
    {R"({"lars": {"trust_coefficient": 0}})", "optimizer.lars.trust_coefficient", "greater than 0"},
    {R"({"lars": {"epsilon": -1}})", "optimizer.lars.epsilon", "at least 0"},
    {"{}", "optimizer", "is missing; give one of sgd, adam, adagrad, rmsprop"},
    {R"({"sgd": {}, "weight_decay": -1})", "optimizer.weight_decay", "at least 0"},
    {R"({"sgd": {}, "weight_decay_exclude": ["*/bias", ""]})", "optimizer.weight_decay_exclude[1]", "1 to 200"},
    {R"({"sgd": {}, "weight_decay_exclude": ["bias"]})", "optimizer.weight_decay_exclude[0]", "matches no parameter"},
    {R"({"sgd": {}, "clip_value": 0})", "optimizer.clip_value", "greater than 0"},
    {R"({"sgd": {}, "clip_norm": -1})", "optimizer.clip_norm", "greater than 0"},
    {R"({"sgd": {}, "global_clip_norm": "NaN"})", "optimizer.global_clip_norm", "greater than 0"},
    {R"({"sgd": {}, "clip_norm": 1, "clip_value": 1})", "optimizer", "one of clip_value"},
    {R"({"sgd": {}, "gradient_accumulation_steps": -1})", "optimizer.gradient_accumulation_steps", "at least 0"},
    {R"({"sgd": {}, "use_ema": true, "ema_momentum": 1})", "optimizer.ema_momentum", "below 1"},
    {R"({"sgd": {}, "ema_momentum": 0.5})", "optimizer.ema_momentum", "without use_ema"},
};

const std::vector<BadCase> kSchedules{
    {R"({"exponential_decay": {"decay_rate": 0.5}})", "schedule.exponential_decay.decay_steps", "at least 1"},
    {R"({"exponential_decay": {"decay_steps": 1, "decay_rate": 2}})", "schedule.exponential_decay.decay_rate",
     "at most 1"},
    {R"({"step_decay": {}})", "schedule.step_decay.step_size", "at least 1"},
    {R"({"step_decay": {"step_size": 1, "gamma": 0}})", "schedule.step_decay.gamma", "greater than 0"},
    {R"({"multi_step_decay": {}})", "schedule.multi_step_decay.milestones", "at least one"},
    {R"({"multi_step_decay": {"milestones": [3, 3]}})", "schedule.multi_step_decay.milestones[1]", "must rise"},
    {R"({"multi_step_decay": {"milestones": [-1]}})", "schedule.multi_step_decay.milestones[0]", "must rise"},
    {R"({"multi_step_decay": {"milestones": [1], "gamma": 1.5}})", "schedule.multi_step_decay.gamma", "at most 1"},
    {R"({"polynomial_decay": {}})", "schedule.polynomial_decay.decay_steps", "at least 1"},
    {R"({"polynomial_decay": {"decay_steps": 1, "end_learning_rate": -1}})",
     "schedule.polynomial_decay.end_learning_rate", "at least 0"},
    {R"({"polynomial_decay": {"decay_steps": 1, "power": 0}})", "schedule.polynomial_decay.power", "greater than 0"},
    {R"({"cosine_decay": {"decay_steps": -1}})", "schedule.cosine_decay.decay_steps", "at least 1"},
    {R"({"cosine_decay": {"decay_steps": 1, "alpha": 1.5}})", "schedule.cosine_decay.alpha", "at most 1"},
    {R"({"cosine_decay_restarts": {}})", "schedule.cosine_decay_restarts.first_decay_steps", "at least 1"},
    {R"({"cosine_decay_restarts": {"first_decay_steps": 1, "t_mul": 0.5}})", "schedule.cosine_decay_restarts.t_mul",
     "at least 1"},
    {R"({"cosine_decay_restarts": {"first_decay_steps": 1, "m_mul": 2}})", "schedule.cosine_decay_restarts.m_mul",
     "at most 1"},
    {R"({"cosine_decay_restarts": {"first_decay_steps": 1, "alpha": -1}})", "schedule.cosine_decay_restarts.alpha",
     "at least 0"},
    {R"({"one_cycle": {"total_steps": 1}})", "schedule.one_cycle.total_steps", "at least 2"},
    {R"({"one_cycle": {"total_steps": 2, "pct_start": 1}})", "schedule.one_cycle.pct_start", "between 0 and 1"},
    {R"({"one_cycle": {"total_steps": 2, "div_factor": 0.5}})", "schedule.one_cycle.div_factor", "at least 1"},
    {R"({"one_cycle": {"total_steps": 2, "final_div_factor": "NaN"}})", "schedule.one_cycle.final_div_factor",
     "at least 1"},
    {R"({"reduce_on_plateau": {"factor": 1}})", "schedule.reduce_on_plateau.factor", "between 0 and 1"},
    {R"({"reduce_on_plateau": {"patience": -1}})", "schedule.reduce_on_plateau.patience", "at least 0"},
    {R"({"reduce_on_plateau": {"cooldown": -1}})", "schedule.reduce_on_plateau.cooldown", "at least 0"},
    {R"({"reduce_on_plateau": {"min_learning_rate": -1}})", "schedule.reduce_on_plateau.min_learning_rate",
     "at least 0"},
    {R"({"warmup_steps": 3})", "schedule", "names no schedule; give one of constant"},
    {R"({"constant": {}, "warmup_steps": -1})", "schedule.warmup_steps", "at least 0"},
};

TEST(ValidateOptimizerTest, BadOnesAreRefused) {
  ExpectRefused<v1::OptimizerSpec>(kOptimizers);
  ExpectEveryKind<v1::OptimizerSpec>(kOptimizers);
}

TEST(ValidateOptimizerTest, GoodOnesAreNot) {
  for (const char* json :
       {R"({"adamw": {"beta_1": 0}, "weight_decay": 0, "weight_decay_exclude": ["*/bias", "dense/*"]})",
        R"({"lars": {"epsilon": 0}, "clip_norm": 1, "gradient_accumulation_steps": 4})",
        R"({"sgd": {"momentum": 0.9, "nesterov": true}, "use_ema": true, "ema_momentum": 0})", R"({"adagrad": {}})"}) {
    EXPECT_TRUE(Check(Parse<v1::OptimizerSpec>(json)).empty()) << json;
  }
}

TEST(ValidateScheduleTest, BadOnesAreRefused) {
  ExpectRefused<v1::ScheduleSpec>(kSchedules);
  ExpectEveryKind<v1::ScheduleSpec>(kSchedules);
}

TEST(ValidateInitializerTest, BadOnesAreRefused) {
  const std::vector<BadCase> cases{
      {R"({"constant": {"value": "NaN"}})", "k.constant.value", "finite"},
      {R"({"random_uniform": {"minval": 1}})", "k.random_uniform", "less than maxval"},
      {R"({"random_uniform": {"maxval": "Infinity"}})", "k.random_uniform", "less than maxval"},
      {R"({"random_normal": {"mean": "NaN"}})", "k.random_normal.mean", "finite"},
      {R"({"truncated_normal": {"stddev": -1}})", "k.truncated_normal.stddev", "at least 0"},
      {R"({"orthogonal": {"gain": "NaN"}})", "k.orthogonal.gain", "finite"},
      {R"({"identity": {"gain": "Infinity"}})", "k.identity.gain", "finite"},
  };
  for (const BadCase& bad : cases) {
    Violations violations;
    CheckInitializer(Parse<v1::InitializerSpec>(bad.json), Shape{4, 4}, "k", violations);
    ASSERT_EQ(violations.count(), 1u) << bad.json;
    EXPECT_EQ(violations.list()[0].field, bad.field);
    EXPECT_THAT(violations.list()[0].description, testing::HasSubstr(bad.text));
  }
  ExpectEveryKind<v1::InitializerSpec>(cases, {"zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform",
                                               "he_normal", "lecun_uniform", "lecun_normal"});
}

TEST(ValidateInitializerTest, ShapesThatDoNotFitAreRefused) {
  const auto faults = [](const std::string& json, const Shape& shape) {
    Violations violations;
    CheckInitializer(Parse<v1::InitializerSpec>(json), shape, "k", violations);
    return violations.count();
  };
  EXPECT_EQ(faults(R"({"identity": {}})", {3, 3}), 0u);
  EXPECT_EQ(faults(R"({"identity": {}})", {3}), 1u);
  EXPECT_EQ(faults(R"({"identity": {}})", {3, 1, 5, 5}), 1u);
  EXPECT_EQ(faults(R"({"orthogonal": {}})", {3, 1, 5, 5}), 0u);
  EXPECT_EQ(faults(R"({"orthogonal": {}})", {3}), 1u);
  EXPECT_EQ(faults(R"({"orthogonal": {}})", {2048, 2048}), 0u);
  EXPECT_EQ(faults(R"({"orthogonal": {}})", {100'000, 10'000}), 1u);
}

}  // namespace
}  // namespace lockstep
