// SPDX-License-Identifier: Apache-2.0
// .npy files as NumPy writes them.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/shape.h"

namespace lockstep {

// `values` has shape.elements() values.
template <typename T>
std::string NpyBytes(const Shape& shape, const std::vector<T>& values) {
  const char* kind = std::is_floating_point_v<T> ? "f" : std::is_signed_v<T> ? "i" : "u";
  std::string axes = "(";
  for (int64_t axis : shape.dims()) absl::StrAppend(&axes, axis, ", ");
  std::string header =
      absl::StrCat("{'descr': '<", kind, sizeof(T), "', 'fortran_order': False, 'shape': ", axes, "), }");
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes = absl::StrCat("\x93NUMPY", std::string("\x01\0", 2));
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace lockstep
