// SPDX-License-Identifier: Apache-2.0
#include "common/shape.h"

#include <algorithm>
#include <cstdlib>

namespace lockstep {

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > kMaxRank) std::abort();
  std::copy(dims.begin(), dims.end(), dims_.begin());
  rank_ = static_cast<int>(dims.size());
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int64_t d : dims()) n *= d;
  return n;
}

std::string Shape::ToString() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) s += ", ";
    s += std::to_string(dims_[i]);
  }
  return s + "]";
}

bool Shape::operator==(const Shape& other) const { return std::ranges::equal(dims(), other.dims()); }

int64_t CheckedElements(std::span<const int64_t> dims, int64_t limit) {
  int64_t n = 1;
  for (int64_t d : dims) {
    if (d < 0) return -1;
    if (__builtin_mul_overflow(n, d, &n) || n > limit) return -1;
  }
  return n;
}

}  // namespace lockstep
