// SPDX-License-Identifier: Apache-2.0
// A trained model on any device: as the CPU sees it.
#include "worker/infer/evaluate.h"

#include <gtest/gtest.h>

#include <fstream>
#include <vector>

#include "tests/unit/worker/measure/measured_devices.h"
#include "tests/unit/worker/measure/table_job.h"

namespace lockstep {
namespace {

class EvaluateTest : public TableJobTest, public testing::WithParamInterface<NamedMeasured> {
 protected:
  void SetUp() override {
    TableJobTest::SetUp();
    const v1::JobSpec spec = TableSpec();
    const TrainOptions options{.spec = spec,
                               .dataset = [&] { return OpenDataset(spec.dataset(), Roots(), spec.seed(), 2).value(); }};
    const Outcome trained = Train(1, "trained", options);
    ASSERT_TRUE(trained.status.ok()) << trained.status;
    model_ = ReadTrainedModel((folder_ / "trained").string()).value();
  }

  std::vector<float> PredictOn(Device* device) {
    std::vector<float> all;
    const absl::Status status = Predict(model_, Table(), device, [&](std::span<const float> output) {
      all.insert(all.end(), output.begin(), output.end());
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return all;
  }

  const MeasuredDevice on_ = GetParam().make();
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  TrainedModel model_;
};

void ExpectNear(const Evaluation& got, const Evaluation& wanted) {
  EXPECT_EQ(got.samples, wanted.samples);
  EXPECT_NEAR(got.scores.loss, wanted.scores.loss, 1e-5);
  EXPECT_EQ(got.scores.Find("accuracy"), wanted.scores.Find("accuracy"));
}

TEST_P(EvaluateTest, ScoresAreTheCpus) {
  const v1::DatasetSpec dataset = TableSpec().dataset();
  for (const bool training_part : {false, true}) {
    const EvaluateOptions options{.data_roots = Roots(), .training_part = training_part};
    ExpectNear(EvaluateOnDataset(model_, dataset, options, on_.device.get()).value(),
               EvaluateOnDataset(model_, dataset, options, cpu_.get()).value());
  }
  const Evaluation all = EvaluateOnTable(model_, Table(), on_.device.get()).value();
  EXPECT_EQ(all.samples, 100);
  ExpectNear(all, EvaluateOnTable(model_, Table(), cpu_.get()).value());
}

TEST_P(EvaluateTest, PredictionsAreTheCpus) {
  const std::vector<float> got = PredictOn(on_.device.get()), wanted = PredictOn(cpu_.get());
  ASSERT_EQ(got.size(), 200u);
  ASSERT_EQ(wanted.size(), 200u);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << i;
}

INSTANTIATE_TEST_SUITE_P(Devices, EvaluateTest, testing::ValuesIn(MeasuredDevices()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep
