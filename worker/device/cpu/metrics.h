// SPDX-License-Identifier: Apache-2.0
// What metrics count, on the CPU: plain loops, rows in order.
#pragma once

#include <algorithm>
#include <cmath>

#include "worker/device/tensor.h"

namespace lockstep::cpu {

// The row's label: given, or the lowest index of its largest target. May be no class at all.
template <typename T>
int64_t LabelOf(Tensor targets, int64_t row, int64_t n) {
  if (targets.type == DType::kI32) return targets.as<int32_t>()[row];
  const T* t = targets.as<T>() + row * n;
  return std::max_element(t, t + n) - t;
}

template <typename T>
void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) {
  const int64_t rows = outputs.shape[0], n = rows == 0 ? 0 : outputs.elements() / rows;
  double found = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* y = outputs.as<T>() + i * n;
    const int64_t label = LabelOf<T>(targets, i, n);
    if (label < 0 || label >= n) continue;
    // A label whose output is no number counts as the last.
    int64_t rank = 0;
    for (int64_t j = 0; j < n; ++j) rank += y[label] > y[j] || (y[label] == y[j] && label < j) ? 0 : 1;
    found += rank <= k ? 1 : 0;
  }
  sum.as<double>()[0] += found;
}

template <typename T>
void SumErrors(Tensor predictions, Tensor targets, Tensor sums) {
  double squared = 0, absolute = 0, target = 0, target_squared = 0;
  for (int64_t i = 0; i < predictions.elements(); ++i) {
    const double t = static_cast<double>(targets.as<T>()[i]);
    const double difference = static_cast<double>(predictions.as<T>()[i]) - t;
    squared += difference * difference;
    absolute += std::abs(difference);
    target += t;
    target_squared += t * t;
  }
  double* s = sums.as<double>();
  s[0] += squared;
  s[1] += absolute;
  s[2] += target;
  s[3] += target_squared;
}

}  // namespace lockstep::cpu
