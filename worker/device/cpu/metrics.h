// SPDX-License-Identifier: Apache-2.0
// What metrics count, on the CPU: plain loops, rows in order.
#pragma once

#include <algorithm>
#include <cmath>

#include "worker/device/cpu/losses.h"

namespace lockstep::cpu {

// visit(row, label, y) for each row whose label is a class.
template <typename T, typename Visit>
void VisitLabels(Tensor outputs, Tensor targets, Visit visit) {
  const int64_t rows = outputs.shape[0], n = rows == 0 ? 0 : outputs.elements() / rows;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t label = LabelOf<T>(targets, i, n);
    if (label >= 0 && label < n) visit(label, outputs.as<T>() + i * n, n);
  }
}

template <typename T>
void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) {
  double found = 0;
  VisitLabels<T>(outputs, targets, [&](int64_t label, const T* y, int64_t n) {
    // A label whose output is no number counts as the last.
    const T own = y[label];
    int64_t rank = 1;
    for (int64_t j = 0; j < label; ++j) rank += own > y[j] ? 0 : 1;
    for (int64_t j = label + 1; j < n; ++j) rank += own >= y[j] ? 0 : 1;
    found += rank <= k ? 1 : 0;
  });
  sum.as<double>()[0] += found;
}

template <typename T>
void CountClasses(Tensor outputs, Tensor targets, Tensor sums) {
  double* const s = sums.as<double>();
  VisitLabels<T>(outputs, targets, [&](int64_t label, const T* y, int64_t n) {
    const int64_t taken = std::max_element(y, y + n) - y;
    s[label * 3] += taken == label ? 1 : 0;
    s[taken * 3 + 1] += 1;
    s[label * 3 + 2] += 1;
  });
}

template <typename T>
void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) {
  VisitLabels<T>(outputs, targets, [&](int64_t label, const T* y, int64_t n) {
    sums.as<double>()[label * n + (std::max_element(y, y + n) - y)] += 1;
  });
}

template <typename T>
void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) {
  // By target and output.
  double counts[2][2] = {};
  const bool labels = targets.type == DType::kI32;
  for (int64_t i = 0; i < outputs.elements(); ++i) {
    if (labels && targets.as<int32_t>()[i] != 0 && targets.as<int32_t>()[i] != 1) continue;
    const bool yes = labels ? targets.as<int32_t>()[i] == 1 : targets.as<T>()[i] > T(0.5);
    counts[yes ? 1 : 0][static_cast<double>(outputs.as<T>()[i]) > threshold ? 1 : 0] += 1;
  }
  double* s = sums.as<double>();
  s[0] += counts[1][1];
  s[1] += counts[0][1];
  s[2] += counts[1][0];
  s[3] += counts[0][0];
}

// What is added to or taken from a row's values to make probabilities of them.
template <typename T>
class Probabilities {
 public:
  Probabilities(OutputKind kind, const T* y, int64_t n) : kind_(kind), y_(y) {
    if (kind != OutputKind::kSoftmax) return;
    max_ = *std::max_element(y, y + n);
    for (int64_t j = 0; j < n; ++j) sum_ += math::Exp(y[j] - max_);
  }
  T operator[](int64_t j) const {
    if (kind_ == OutputKind::kSoftmax) return math::Exp(y_[j] - max_) / sum_;
    return kind_ == OutputKind::kSigmoid ? SigmoidMath{}.Forward(y_[j]) : y_[j];
  }

 private:
  OutputKind kind_;
  const T* y_;
  T max_ = T(0);
  T sum_ = T(0);
};

// Exact in double for a float's probability. What is no number is in the first bucket.
inline int64_t BucketOf(double probability, int64_t buckets) {
  const double place = std::ceil(probability * static_cast<double>(buckets)) - 1.0;
  if (!(place > 0)) return 0;
  return static_cast<int64_t>(std::min(place, static_cast<double>(buckets - 1)));
}

template <typename T>
void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) {
  const int64_t rows = outputs.shape[0], n = rows == 0 ? 0 : outputs.elements() / rows;
  const int64_t buckets = sums.elements() / 2;
  const bool labels = targets.type == DType::kI32;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t label = labels ? targets.as<int32_t>()[i] : 0;
    if (labels && (label < 0 || label >= std::max<int64_t>(n, 2))) continue;
    const Probabilities<T> probabilities(kind, outputs.as<T>() + i * n, n);
    for (int64_t j = 0; j < n; ++j) {
      // One output stands for class 1.
      const bool yes = labels ? label == (n == 1 ? 1 : j) : targets.as<T>()[i * n + j] > T(0.5);
      const int64_t bucket = BucketOf(static_cast<double>(probabilities[j]), buckets);
      sums.as<double>()[(yes ? buckets : 0) + bucket] += 1;
    }
  }
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
