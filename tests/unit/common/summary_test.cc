// SPDX-License-Identifier: Apache-2.0
#include "common/model/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using ::testing::HasSubstr;

TEST(SummaryTest, ShowsTheLecturesNetwork) {
  v1::ModelSpec spec;
  spec.add_layers()->mutable_flatten();
  for (int64_t units : {16, 16, 10}) {
    auto* dense = spec.add_layers()->mutable_dense();
    dense->set_units(units);
    dense->set_activation(units == 10 ? "softmax" : "relu");
  }
  Violations violations;
  const std::string text = ModelSummary(PlanModel(spec, Shape{28, 28}, violations));
  EXPECT_TRUE(violations.empty());
  EXPECT_EQ(text,
            "------------------------------------------\n"
            " Layer (type)       Output Shape  Param #\n"
            "==========================================\n"
            " flatten (Flatten)  (None, 784)         0\n"
            " dense (Dense)      (None, 16)     12,560\n"
            " dense_1 (Dense)    (None, 16)        272\n"
            " dense_2 (Dense)    (None, 10)        170\n"
            "==========================================\n"
            " Total params: 13,002\n"
            " Trainable params: 13,002\n"
            " Non-trainable params: 0\n"
            "------------------------------------------\n");
}

TEST(SummaryTest, AnActivationLayerHasARowOfItsOwn) {
  v1::ModelSpec spec;
  spec.add_layers()->mutable_dense()->set_units(1'000'000);
  spec.add_layers()->mutable_relu();
  Violations violations;
  const std::string text = ModelSummary(PlanModel(spec, Shape{2}, violations));
  EXPECT_THAT(text, HasSubstr("relu (ReLU)"));
  EXPECT_THAT(text, HasSubstr("Total params: 3,000,000\n"));
  EXPECT_THAT(ModelSummary({}), HasSubstr("Total params: 0\n"));
}

}  // namespace
}  // namespace lockstep
