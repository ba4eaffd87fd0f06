// SPDX-License-Identifier: Apache-2.0
// Views of device memory. A Tensor owns nothing and is cheap to pass by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/shape.h"

namespace lockstep {

// kF64 exists so that the same layers can be checked against finite differences. kBF16 and kF16 are only for what lies
// between layers while a model trains (Device::FactorType).
enum class DType : uint8_t { kF32, kF64, kU8, kI32, kI64, kBF16, kF16 };

constexpr size_t SizeOf(DType type) {
  switch (type) {
    case DType::kU8:
      return 1;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF64:
    case DType::kI64:
      return 8;
  }
  return 0;
}

constexpr bool IsFactor(DType type) { return type == DType::kBF16 || type == DType::kF16; }

// How numbers lie in memory; the shape does not depend on it.
enum class Layout : uint8_t {
  kRowMajor,
  // Images [rows, channels, ...] as the device likes them (Device::ImageLayout), which may take more memory than the
  // shape says: Device::LayoutElements.
  kImages,
};

// Some columns of a matrix, ascending.
struct ColumnList {
  static constexpr int64_t kMaxWidth = int64_t{1} << 16;

  int64_t count = 0;
  // No number in them is larger, nor are their opposites.
  float bound = 0;
  // Of numbers below kMaxWidth; in memory that the host can use. Owned by whoever made it.
  uint16_t* columns = nullptr;
};

// Rows of a table of bytes as numbers: x[i, :] = table[indices[i], :] * scale. In memory that the host can use, whose
// owner is somebody else.
struct ByteRows {
  const uint8_t* table = nullptr;
  const int64_t* indices = nullptr;
  float scale = 1;
};

// Dense. `data` is device memory and outlives the view.
struct Tensor {
  void* data = nullptr;
  Shape shape;
  DType type = DType::kF32;
  Layout layout = Layout::kRowMajor;
  // Not null: of a matrix of this shape `data` holds these columns alone, [rows, columns->count]; all others are zero.
  // Nothing takes such a tensor but what says so.
  const ColumnList* columns = nullptr;
  // Not null: of a matrix of this shape, or of as many rows, the numbers are these, and `data` is null. The same holds.
  const ByteRows* byte_rows = nullptr;

  int64_t elements() const { return shape.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * SizeOf(type); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // The same memory with another shape of as many elements, or fewer.
  Tensor Reshaped(const Shape& s) const { return {data, s, type, layout, columns, byte_rows}; }
};

}  // namespace lockstep
