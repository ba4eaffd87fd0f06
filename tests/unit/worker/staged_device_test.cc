// SPDX-License-Identifier: Apache-2.0
// On a device whose memory is not the tensors': copies go there and come back.
#include "tests/gpu/staged_device.h"

#include <vector>

#include "gtest/gtest.h"

namespace lockstep {
namespace {

Tensor View(std::vector<float>& v, const Shape& shape) { return {v.data(), shape, DType::kF32}; }

TEST(StagedDeviceTest, PartsOfABufferAndForeignMemoryGoThereAndBack) {
  const auto device = MakeStagedDevice(MakeCpuDevice(1));
  const auto buffer = device->Allocate(4 * sizeof(float)).value();
  auto* const data = static_cast<float*>(buffer->data());
  for (int i = 0; i < 4; ++i) data[i] = static_cast<float>(i);
  const Tensor front{data, Shape{2}, DType::kF32}, back{data + 2, Shape{2}, DType::kF32};
  std::vector<float> foreign{10, 20};
  device->Add(front, View(foreign, Shape{2}), back);
  EXPECT_EQ(std::vector<float>(data, data + 4), (std::vector<float>{0, 1, 10, 21}));
  device->Add(View(foreign, Shape{2}), back, View(foreign, Shape{2}));
  EXPECT_EQ(foreign, (std::vector<float>{20, 41}));
}

TEST(StagedDeviceTest, WhatTheHostWroteIsSeen) {
  const auto device = MakeStagedDevice(MakeCpuDevice(1));
  const auto buffer = device->Allocate(sizeof(float)).value();
  const Tensor t{buffer->data(), Shape{1}, DType::kF32};
  device->Fill(t, 2);
  *t.as<float>() *= 4;
  device->Add(t, t, t);
  EXPECT_EQ(*t.as<float>(), 16);
}

}  // namespace
}  // namespace lockstep
