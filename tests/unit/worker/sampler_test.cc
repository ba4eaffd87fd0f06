// SPDX-License-Identifier: Apache-2.0
#include "worker/train/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace lockstep {
namespace {

constexpr int64_t kWidth = 1000, kRows = 8;

// Row r is full of r % 251, with label r.
struct Table {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> labels;

  explicit Table(int64_t samples) : bytes(static_cast<size_t>(samples * kWidth)), labels(static_cast<size_t>(samples)) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i / kWidth % 251);
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int32_t>(i);
  }
  DataTable data() {
    const auto samples = static_cast<int64_t>(labels.size());
    return {.features = {bytes.data(), Shape{samples, kWidth}, DType::kU8},
            .targets = {labels.data(), Shape{samples}, DType::kI32},
            .samples = samples};
  }
};

// The first batch, drawn after all bytes of the table were set to 255.
std::vector<float> FirstBatchOfChanged(int64_t samples, bool training, std::vector<int32_t>* labels) {
  Table table(samples);
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const DataTable data = table.data();
  auto sampler = Sampler::Create(device.get(), data, v1::JobSpec{},
                                 {.sample = Shape{kWidth}, .max_rows = kRows, .training = training});
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  std::ranges::fill(table.bytes, uint8_t{255});
  const auto batch = (*sampler)->Take({.epoch = 0, .first = 0, .rows = kRows});
  EXPECT_TRUE(batch.ok()) << batch.status();
  const auto* targets = batch->targets.as<int32_t>();
  labels->assign(targets, targets + kRows);
  const auto* inputs = batch->inputs.as<float>();
  return {inputs, inputs + kRows * kWidth};
}

// Rows of a set of some megabytes are found faster in memory with large pages; others stay where they are.
TEST(SamplerTest, ATableOfSomeMegabytesIsCopied) {
  std::vector<int32_t> labels;
  const std::vector<float> copied = FirstBatchOfChanged(3000, true, &labels);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kWidth; ++c) {
      ASSERT_EQ(copied[static_cast<size_t>(r * kWidth + c)], static_cast<float>(labels[static_cast<size_t>(r)] % 251));
    }
  }
  for (const auto& [samples, training] : {std::pair{1000, true}, {3000, false}, {70'000, true}}) {
    const std::vector<float> in_place = FirstBatchOfChanged(samples, training, &labels);
    EXPECT_TRUE(std::ranges::all_of(in_place, [](float x) { return x == 255; })) << samples;
  }
}

}  // namespace
}  // namespace lockstep
