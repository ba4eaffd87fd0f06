// SPDX-License-Identifier: Apache-2.0
#include "worker/device/device_timer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "tests/unit/worker/measure/measured_devices.h"

namespace lockstep {
namespace {

class DeviceTimerTest : public testing::TestWithParam<NamedMeasured> {
 protected:
  // The same as in a step: something that takes a while.
  void Work() {
    const Tensor x{buffer_->data(), Shape{1000}, DType::kF32};
    for (int i = 0; i < 5; ++i) on_.device->Fill(x, i);
  }

  MeasuredDevice on_ = GetParam().make();
  std::unique_ptr<Buffer> buffer_ = on_.device->Allocate(4000).value();
};

TEST_P(DeviceTimerTest, TellsMarksInOrderFromTheFirstOneOn) {
  const auto timer = on_.make_timer(3).value();
  EXPECT_EQ(timer->capacity(), 3);
  const auto began = std::chrono::steady_clock::now();
  std::vector<double> all;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 3; ++i) {
      timer->Mark();
      Work();
    }
    const std::span<const double> seconds = timer->Read().value();
    ASSERT_EQ(seconds.size(), 3u);
    all.insert(all.end(), seconds.begin(), seconds.end());
  }
  const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  EXPECT_EQ(all.front(), 0);
  EXPECT_TRUE(std::ranges::is_sorted(all));
  EXPECT_GT(all.back(), all.front());
  // Events are told in milliseconds, as floats.
  EXPECT_LE(all.back(), passed * (1 + 1e-6));
}

TEST_P(DeviceTimerTest, NoMarksAreNothing) {
  const auto timer = on_.make_timer(2).value();
  EXPECT_TRUE(timer->Read().value().empty());
  timer->Mark();
  EXPECT_EQ(timer->Read().value().size(), 1u);
  EXPECT_TRUE(timer->Read().value().empty());
  timer->Mark();
  EXPECT_GE(timer->Read().value()[0], 0);
}

TEST_P(DeviceTimerTest, MoreMarksThanFitAreAnError) {
  const auto timer = on_.make_timer(2).value();
  for (int i = 0; i < 3; ++i) timer->Mark();
  const absl::Status status = timer->Read().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("marks"));
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceTimerTest, testing::ValuesIn(MeasuredDevices()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep
