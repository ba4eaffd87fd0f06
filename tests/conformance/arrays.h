// SPDX-License-Identifier: Apache-2.0
// Device memory for tests, filled from the host.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "worker/device/device.h"

namespace lockstep::conformance {

// Owns the buffers it hands out; the device outlives it.
class Arrays {
 public:
  explicit Arrays(Device* device) : device_(device) {}
  Tensor Zeros(const Shape& shape, DType type) {
    buffers_.push_back(device_->Allocate(static_cast<size_t>(shape.elements()) * SizeOf(type)).value());
    return {buffers_.back()->data(), shape, type};
  }
  // The same draws in both precisions, rounded to float so that both see the same numbers. None is
  // nearer to zero than 0.05, where relu has no derivative.
  Tensor Random(const Shape& shape, DType type, uint64_t stream) {
    const Tensor t = Zeros(shape, type);
    const RngStream random{.seed = 77, .purpose = RngPurpose::kSynthetic, .stream = stream};
    for (int64_t i = 0; i < t.elements(); ++i) {
      const float u = 2.0f * random.Uniform(static_cast<uint64_t>(i)) - 1.0f;
      Set(t, i, u < 0 ? u - 0.05f : u + 0.05f);
    }
    return t;
  }
  Tensor Labels(int64_t rows, int64_t classes) {
    const Tensor t = Zeros({rows}, DType::kI32);
    for (int64_t i = 0; i < rows; ++i) t.as<int32_t>()[i] = static_cast<int32_t>((i * 7 + 3) % classes);
    return t;
  }

  static double Get(const Tensor& t, int64_t i) {
    return t.type == DType::kF64 ? t.as<double>()[i] : static_cast<double>(t.as<float>()[i]);
  }
  static void Set(const Tensor& t, int64_t i, double value) {
    if (t.type == DType::kF64) {
      t.as<double>()[i] = value;
    } else {
      t.as<float>()[i] = static_cast<float>(value);
    }
  }

 private:
  Device* device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

// [rows, sample...].
inline Shape Batched(int64_t rows, const Shape& sample) {
  std::vector<int64_t> dims{rows};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  return Shape(std::span<const int64_t>(dims));
}

// Rows [first, first + rows) of a [n, ...] tensor.
inline Tensor RowsOf(const Tensor& t, int64_t first, int64_t rows) {
  const int64_t width = t.elements() / t.shape[0];
  std::vector<int64_t> dims(t.shape.dims().begin(), t.shape.dims().end());
  dims[0] = rows;
  return {t.as<char>() + static_cast<size_t>(first * width) * SizeOf(t.type), Shape(std::span<const int64_t>(dims)),
          t.type};
}

inline bool SameBits(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  if (!google::protobuf::TextFormat::ParseFromString(text, &message)) std::abort();
  return message;
}

}  // namespace lockstep::conformance
