// SPDX-License-Identifier: Apache-2.0
// Arrays that begin on a pair of cache lines, as hardware fetches them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace lockstep {

inline constexpr size_t kCacheLine = 64;
inline constexpr size_t kLinePair = 2 * kCacheLine;

template <typename T>
struct AlignedDelete {
  void operator()(T* p) const { ::operator delete[](p, std::align_val_t{kLinePair}); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete<T>>;

// `count` zeros.
template <typename T>
AlignedArray<T> MakeAligned(size_t count) {
  T* p = static_cast<T*>(::operator new[](std::max<size_t>(count, 1) * sizeof(T), std::align_val_t{kLinePair}));
  std::fill_n(p, count, T{});
  return AlignedArray<T>(p);
}

}  // namespace lockstep
