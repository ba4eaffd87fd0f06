// SPDX-License-Identifier: Apache-2.0
// Samples whose empty columns are left out, or whose products are made straight from bytes: the same bits as with all
// numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "tests/conformance/arrays.h"
#include "tests/unit/worker/product_case.h"
#include "worker/device/cpu/cpu_columns.h"
#include "worker/nn/model.h"

namespace lockstep {
namespace {

constexpr float kScale = 1.0F / 255.0F;

// A table of bytes: of each column all rows are zero, or some are.
struct DarkTable {
  int64_t samples, width;
  std::vector<uint8_t> bytes;

  // So many of 8 columns are bright.
  DarkTable(int64_t count, int64_t columns, uint64_t bright) : samples(count), width(columns) {
    const RngStream rng{8, RngPurpose::kSynthetic, 1};
    for (int64_t i = 0; i < samples; ++i) {
      for (int64_t c = 0; c < width; ++c) {
        const uint64_t word = rng.Word(static_cast<uint64_t>(i * width + c));
        const bool there = rng.Word(static_cast<uint64_t>(1'000'000 + c)) % 8 < bright && word % 3 == 0;
        bytes.push_back(there ? static_cast<uint8_t>(word >> 8) : 0);
      }
    }
  }
  Tensor Table() { return {bytes.data(), Shape{samples, width}, DType::kU8}; }
};

// A batch of all rows but the first, from the last on; dense, and of some columns.
struct Batches {
  std::vector<int64_t> indices;
  std::vector<float> dense, some;
  std::vector<uint16_t> numbers;
  ColumnList list;
  ByteRows source;
  Tensor x, columns, bytes;

  Batches(Device& device, DarkTable& table) {
    for (int64_t i = table.samples - 1; i > 0; --i) indices.push_back(i);
    const auto rows = static_cast<int64_t>(indices.size());
    const Shape shape{rows, table.width};
    dense.resize(static_cast<size_t>(shape.elements()));
    some.resize(dense.size());
    numbers.resize(static_cast<size_t>(table.width));
    list.columns = numbers.data();
    x = View(dense, shape);
    columns = View(some, shape);
    columns.columns = &list;
    source = {.table = table.bytes.data(), .indices = indices.data(), .scale = kScale};
    bytes = {nullptr, shape, DType::kF32};
    bytes.byte_rows = &source;
    const Tensor at{indices.data(), Shape{rows}, DType::kI64};
    device.GatherRows(table.Table(), at, {.scale = kScale}, x);
    device.GatherColumns(table.Table(), at, {.scale = kScale}, &list, columns);
  }
};

class ColumnsTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    KernelChoice sets[4];
    const int count = AvailableKernels(sets, 4);
    // The last set is the one that every machine has.
    device_ = MakeCpuDeviceWith(sets[std::min(GetParam(), count - 1)], 1);
  }
  std::unique_ptr<Device> device_;
};

TEST_P(ColumnsTest, WhatIsNotZeroIsListedAndKept) {
  for (const int64_t width : {1, 15, 16, 63, 64, 65, 130, 784}) {
    for (const int64_t samples : {2, 3, 12, 40}) {
      for (const uint64_t bright : {0, 3, 8}) {
        SCOPED_TRACE(testing::Message() << samples << "x" << width << " bright " << bright);
        DarkTable table(samples, width, bright);
        const Batches batch(*device_, table);
        std::vector<uint16_t> expected;
        const auto rows = static_cast<int64_t>(batch.indices.size());
        for (int64_t c = 0; c < width; ++c) {
          bool any = false;
          for (int64_t i = 0; i < rows; ++i) any |= batch.dense[static_cast<size_t>(i * width + c)] != 0;
          if (any) expected.push_back(static_cast<uint16_t>(c));
        }
        const auto count = static_cast<size_t>(batch.list.count);
        ASSERT_EQ(std::vector<uint16_t>(batch.numbers.begin(), batch.numbers.begin() + batch.list.count), expected);
        for (size_t i = 0; i < static_cast<size_t>(rows); ++i) {
          for (size_t c = 0; c < count; ++c) {
            ASSERT_EQ(batch.some[i * count + c], batch.dense[i * static_cast<size_t>(width) + expected[c]]);
          }
        }
        // What lies behind is not written.
        for (size_t i = static_cast<size_t>(rows) * count; i < batch.some.size(); ++i) ASSERT_EQ(batch.some[i], 0);
        EXPECT_EQ(batch.list.bound, 255 * kScale);
      }
    }
  }
}

TEST_P(ColumnsTest, ProductsHaveTheBitsOfAllColumns) {
  for (const int64_t width : {1, 40, 130, 784}) {
    for (const int64_t samples : {2, 11, 33}) {
      for (const uint64_t bright : {0, 4, 8}) {
        DarkTable table(samples, width, bright);
        const Batches batch(*device_, table);
        const int64_t rows = samples - 1;
        for (const int64_t n : {1, 10, 16, 17, 32, 45}) {
          SCOPED_TRACE(testing::Message() << samples << "x" << width << "x" << n << " bright " << bright);
          std::vector<float> w = Random(width * n, 1), bias = Random(n, 2), dy = Random(rows * n, 3);
          const Tensor weights = View(w, Shape{width, n}), b = View(bias, Shape{n}), up = View(dy, Shape{rows, n});
          std::vector<float> y(static_cast<size_t>(rows * n)), y_some = y;
          const GemmArgs forward{.activation = {Activation::kRelu}};
          device_->Gemm(forward, batch.x, weights, b, View(y, Shape{rows, n}));
          device_->Gemm(forward, batch.columns, weights, b, View(y_some, Shape{rows, n}));
          EXPECT_TRUE(SameBits(y, y_some));
          std::vector<float> dw(w.size()), dw_some(w.size(), 7.0F), sums(static_cast<size_t>(n)), sums_some = sums;
          device_->Gemm({.transpose_a = true, .row_sums = View(sums, Shape{n})}, batch.x, up, {},
                        View(dw, Shape{width, n}));
          device_->Gemm({.transpose_a = true, .row_sums = View(sums_some, Shape{n})}, batch.columns, up, {},
                        View(dw_some, Shape{width, n}));
          EXPECT_TRUE(SameBits(dw, dw_some));
          EXPECT_TRUE(SameBits(sums, sums_some));
          // A step of the weights with that gradient, and without it.
          std::vector<float> stepped = w;
          device_->ApplyUpdate(UpdateRule::kSgd, {.step_size = 0.3}, View(stepped, weights.shape),
                               View(dw, weights.shape), {});
          device_->StepColumns(0.3, batch.columns, up, weights);
          EXPECT_TRUE(SameBits(w, stepped));
        }
      }
    }
  }
}

TEST_P(ColumnsTest, AProductThatMayNotBeFiniteIsSaidSo) {
  DarkTable table(9, 50, 4);
  const Batches batch(*device_, table);
  std::vector<float> dy = Random(8 * 6, 3);
  const Tensor up = View(dy, Shape{8, 6});
  EXPECT_TRUE(device_->ProductIsFinite(batch.columns, up));
  for (const float bad : {NAN, INFINITY, -INFINITY, std::numeric_limits<float>::max()}) {
    std::vector<float> poisoned = dy;
    poisoned[17] = bad;
    EXPECT_FALSE(device_->ProductIsFinite(batch.columns, View(poisoned, up.shape))) << bad;
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, ColumnsTest, testing::Values(0, 1, 2));

// The way for all machines, whatever this one has.
TEST(GatherColumnsTest, BothWaysAreTheSame) {
  const KernelChoice kernels = ChooseKernels();
  if (kernels.gather_columns == nullptr) GTEST_SKIP() << "needs AVX-512 VBMI2";
  KernelChoice plain = kernels;
  plain.gather_columns = nullptr;
  DarkTable table(30, 500, 5);
  const Batches one(*MakeCpuDeviceWith(kernels, 1), table), other(*MakeCpuDeviceWith(plain, 1), table);
  EXPECT_EQ(one.list.count, other.list.count);
  EXPECT_TRUE(std::equal(one.numbers.begin(), one.numbers.begin() + one.list.count, other.numbers.begin()));
  EXPECT_TRUE(SameBits(one.some, other.some));
}

class ByteRowsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels_.byte_lists == nullptr) GTEST_SKIP() << "needs AVX-512 VBMI2";
    // Kernels of our own, all of which add in order.
    kernels_.core = CpuCore::kOther;
    kernels_.large_bf16 = nullptr;
  }
  KernelChoice kernels_ = ChooseKernels();
};

TEST_F(ByteRowsTest, ProductsHaveTheBitsOfAllNumbers) {
  for (const int threads : {1, 3}) {
    const auto device = MakeCpuDeviceWith(kernels_, threads);
    for (const int64_t width : {1, 63, 64, 130, 784}) {
      for (const int64_t samples : {2, 17, 66, 131}) {
        for (const uint64_t bright : {0, 3, 8}) {
          DarkTable table(samples, width, bright);
          const Batches batch(*device, table);
          const int64_t rows = samples - 1;
          for (const int64_t n : {64, 129}) {
            SCOPED_TRACE(testing::Message() << samples << "x" << width << "x" << n << " bright " << bright);
            std::vector<float> w = Random(width * n, 1), bias = Random(n, 2), dy = Random(rows * n, 3);
            const Tensor weights = View(w, Shape{width, n}), b = View(bias, Shape{n}), up = View(dy, Shape{rows, n});
            for (const ProductPrecision precision : {ProductPrecision::kFloat, ProductPrecision::kBf16}) {
              std::vector<float> y(static_cast<size_t>(rows * n)), y_bytes = y;
              const GemmArgs forward{.activation = {Activation::kRelu}, .precision = precision};
              device->Gemm(forward, batch.x, weights, b, View(y, Shape{rows, n}));
              device->Gemm(forward, batch.bytes, weights, b, View(y_bytes, Shape{rows, n}));
              EXPECT_TRUE(SameBits(y, y_bytes));
              std::vector<float> dw(w.size()), dw_bytes(w.size(), 7.0F);
              const GemmArgs backward{.transpose_a = true, .precision = precision};
              device->Gemm(backward, batch.x, up, {}, View(dw, Shape{width, n}));
              device->Gemm(backward, batch.bytes, up, {}, View(dw_bytes, Shape{width, n}));
              EXPECT_TRUE(SameBits(dw, dw_bytes));
            }
          }
        }
      }
    }
  }
}

TEST_F(ByteRowsTest, FullRegistersAndPanelsAreListed) {
  // More rows and columns than are listed at a time, and bytes that are all there.
  DarkTable table(600, 1100, 8);
  for (uint8_t& byte : table.bytes) byte = byte == 0 ? 255 : byte;
  const auto device = MakeCpuDeviceWith(kernels_, 1);
  const Batches batch(*device, table);
  std::vector<float> w = Random(1100 * 64, 1), y(599 * 64), y_bytes(599 * 64);
  device->Gemm({}, batch.x, View(w, Shape{1100, 64}), {}, View(y, Shape{599, 64}));
  device->Gemm({}, batch.bytes, View(w, Shape{1100, 64}), {}, View(y_bytes, Shape{599, 64}));
  EXPECT_TRUE(SameBits(y, y_bytes));
}

// Whether some columns are enough is said by the model: whoever else reads the samples wants all.
TEST(ModelColumnsTest, OnlyDenseLayersTakeAnotherForm) {
  const auto device = MakeCpuDevice(1);
  const auto form = [&](const std::string& layers, int64_t rows = 32, ProductPrecision precision = {}) {
    Violations violations;
    const ModelPlan plan = PlanModel(conformance::FromText<v1::ModelSpec>(layers), {28, 28}, violations);
    EXPECT_TRUE(violations.empty()) << layers << violations.list().front().description;
    const auto loss = conformance::FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
    return Model::Create(device.get(), plan, loss, DType::kF32, rows, {}, 1, precision).value()->FormOfSamples(rows);
  };
  const auto takes = [&](const std::string& layers) { return form(layers) == SampleForm::kColumns; };
  const std::string flat = "layers { flatten {} } ", dense = "layers { dense { units: 16 activation: 'relu' } } ",
                    last = "layers { dense { units: 10 } }";
  EXPECT_TRUE(takes(flat + dense + last));
  EXPECT_TRUE(takes(flat + last));
  EXPECT_EQ(form(flat + dense + last, 32, ProductPrecision::kBf16), SampleForm::kAll);
  // Zeros are skipped one by one there.
  const KernelChoice kernels = ChooseKernels();
  const bool lists = kernels.byte_lists != nullptr;
  const std::string wide = flat + "layers { dense { units: 1024 } } " + last;
  EXPECT_EQ(form(wide, 128), lists ? SampleForm::kBytes : SampleForm::kAll);
  // Where pairs of bfloat16 are fast, training multiplies all.
  EXPECT_EQ(form(wide, 128, ProductPrecision::kBf16),
            lists && kernels.core == CpuCore::kIntel ? SampleForm::kBytes : SampleForm::kAll);
  EXPECT_FALSE(takes(flat + "layers { dropout { rate: 0.5 } } " + dense + last));
  EXPECT_FALSE(takes("layers { layer_normalization {} } " + flat + dense + last));
  // It normalises over the whole batch, which is kept for that.
  EXPECT_FALSE(takes(flat + dense + "layers { batch_normalization { synchronized: true } } " + last));
  const std::string two =
      "layers { flatten {} name: 'x' } layers { dense { units: 8 } name: 'a' inputs: 'x' } "
      "layers { dense { units: 9 } name: 'b' inputs: 'x' } layers { concatenate {} ";
  EXPECT_TRUE(takes(two + "inputs: ['a', 'b'] } " + last));
  EXPECT_FALSE(takes(two + "inputs: ['x', 'a', 'b'] } " + last));
}

}  // namespace
}  // namespace lockstep
