// SPDX-License-Identifier: Apache-2.0
// Shape: up to eight axis lengths, held in place, so that passing one never allocates.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace lockstep {

class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  // At most kMaxRank axes; further ones are a bug and abort.
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[axis]; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  // Product of the axes; 1 for rank 0. Overflow is a bug: check untrusted dims with CheckedElements.
  int64_t elements() const;
  // "[28, 28]".
  std::string ToString() const;
  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// Product of `dims`, or -1 where one is negative or the product exceeds `limit`.
int64_t CheckedElements(std::span<const int64_t> dims, int64_t limit);

}  // namespace lockstep
