// SPDX-License-Identifier: Apache-2.0
// Softmax and the losses on the CPU. Rows are short (a class each), so these are plain loops; sums over
// rows are kept in double, rows in order.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/device/math/activations.h"
#include "worker/device/tensor.h"

namespace lockstep::cpu {

// What Keras clamps probabilities to.
inline constexpr double kProbabilityFloor = 1e-7;
// A label that is no class makes the loss NaN, which the training loop reports; it is never an index.
inline constexpr double kUnknownLabel = std::numeric_limits<double>::quiet_NaN();

// y = softmax(x); returns the logarithm of the sum and, in `max`, the maximum, so that
// log p[j] = x[j] - max - log_sum.
template <typename T>
T SoftmaxRow(const T* x, int64_t n, T* y, T& max) {
  max = *std::max_element(x, x + n);
  T sum = T(0);
  for (int64_t j = 0; j < n; ++j) {
    y[j] = math::Exp(x[j] - max);
    sum += y[j];
  }
  for (int64_t j = 0; j < n; ++j) y[j] /= sum;
  return std::log(sum);
}

template <typename T>
void SoftmaxForward(Tensor x, Tensor y) {
  const int64_t n = x.shape[x.shape.rank() - 1], rows = n == 0 ? 0 : x.elements() / n;
  T max;
  for (int64_t i = 0; i < rows; ++i) SoftmaxRow(x.as<T>() + i * n, n, y.as<T>() + i * n, max);
}

template <typename T>
void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) {
  const int64_t n = y.shape[y.shape.rank() - 1], rows = n == 0 ? 0 : y.elements() / n;
  for (int64_t i = 0; i < rows; ++i) {
    const T* py = y.as<T>() + i * n;
    const T* pdy = dy.as<T>() + i * n;
    T* pdx = dx.as<T>() + i * n;
    T dot = T(0);
    for (int64_t j = 0; j < n; ++j) dot += pdy[j] * py[j];
    for (int64_t j = 0; j < n; ++j) pdx[j] = py[j] * (pdy[j] - dot);
  }
}

template <typename T>
void LogSoftmaxForward(Tensor x, Tensor y) {
  const int64_t n = x.shape[x.shape.rank() - 1], rows = n == 0 ? 0 : x.elements() / n;
  for (int64_t i = 0; i < rows; ++i) {
    const T* px = x.as<T>() + i * n;
    T* py = y.as<T>() + i * n;
    const T max = *std::max_element(px, px + n);
    T sum = T(0);
    for (int64_t j = 0; j < n; ++j) sum += math::Exp(px[j] - max);
    const T log_sum = std::log(sum);
    for (int64_t j = 0; j < n; ++j) py[j] = px[j] - max - log_sum;
  }
}

template <typename T>
void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) {
  const int64_t n = y.shape[y.shape.rank() - 1], rows = n == 0 ? 0 : y.elements() / n;
  for (int64_t i = 0; i < rows; ++i) {
    const T* py = y.as<T>() + i * n;
    const T* pdy = dy.as<T>() + i * n;
    T* pdx = dx.as<T>() + i * n;
    T sum = T(0);
    for (int64_t j = 0; j < n; ++j) sum += pdy[j];
    for (int64_t j = 0; j < n; ++j) pdx[j] = pdy[j] - math::Exp(py[j]) * sum;
  }
}

template <typename T>
void SoftmaxCrossEntropy(Tensor logits, Tensor labels, double scale, Tensor dlogits, Tensor sum) {
  const int64_t rows = logits.shape[0], n = rows == 0 ? 0 : logits.elements() / rows;
  const T factor = static_cast<T>(scale);
  double loss = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* x = logits.as<T>() + i * n;
    const int32_t label = labels.as<int32_t>()[i];
    const bool known = label >= 0 && label < n;
    T max, log_sum;
    if (dlogits.data != nullptr) {
      T* d = dlogits.as<T>() + i * n;
      log_sum = SoftmaxRow(x, n, d, max);
      if (known) d[label] -= T(1);
      for (int64_t j = 0; j < n; ++j) d[j] *= factor;
    } else {
      max = *std::max_element(x, x + n);
      T total = T(0);
      for (int64_t j = 0; j < n; ++j) total += math::Exp(x[j] - max);
      log_sum = std::log(total);
    }
    loss += known ? static_cast<double>(log_sum) - static_cast<double>(x[label] - max) : kUnknownLabel;
  }
  sum.as<double>()[0] += loss;
}

template <typename T>
void CrossEntropy(Tensor probabilities, Tensor labels, double scale, Tensor dprobabilities, Tensor sum) {
  const int64_t rows = probabilities.shape[0], n = rows == 0 ? 0 : probabilities.elements() / rows;
  double loss = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* p = probabilities.as<T>() + i * n;
    const int32_t label = labels.as<int32_t>()[i];
    const bool known = label >= 0 && label < n;
    const double clamped = known ? std::clamp(static_cast<double>(p[label]), kProbabilityFloor, 1.0) : kUnknownLabel;
    loss -= std::log(clamped);
    if (dprobabilities.data == nullptr) continue;
    T* d = dprobabilities.as<T>() + i * n;
    std::fill_n(d, n, T(0));
    if (known) d[label] = static_cast<T>(-scale / clamped);
  }
  sum.as<double>()[0] += loss;
}

template <typename T>
void MeanSquaredError(Tensor predictions, Tensor targets, double scale, Tensor dpredictions, Tensor sum) {
  const int64_t rows = predictions.shape[0], n = rows == 0 ? 0 : predictions.elements() / rows;
  const double width = static_cast<double>(n);
  double loss = 0;
  for (int64_t i = 0; i < rows; ++i) {
    double row = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double target = static_cast<double>(targets.as<T>()[i * n + j]);
      const double difference = static_cast<double>(predictions.as<T>()[i * n + j]) - target;
      row += difference * difference;
      if (dpredictions.data != nullptr) {
        dpredictions.as<T>()[i * n + j] = static_cast<T>(2.0 * difference / width * scale);
      }
    }
    loss += row / width;
  }
  sum.as<double>()[0] += loss;
}

}  // namespace lockstep::cpu
