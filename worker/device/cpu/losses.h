// SPDX-License-Identifier: Apache-2.0
// The losses on the CPU. Rows are short (a class each), so these are plain loops; sums over rows are kept in double,
// rows in order.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/device/cpu/kernels.h"
#include "worker/device/math/activations.h"
#include "worker/device/math/losses.h"
#include "worker/device/tensor.h"

namespace lockstep::cpu {

// A label that is no class makes the loss NaN, which the training loop reports; it is never an index.
inline constexpr double kUnknownLabel = std::numeric_limits<double>::quiet_NaN();

// The row's label: given, or the lowest index of its largest target. May be no class at all.
template <typename T>
int64_t LabelOf(Tensor targets, int64_t row, int64_t n) {
  if (targets.type == DType::kI32) return targets.as<int32_t>()[row];
  const T* t = targets.as<T>() + row * n;
  return std::max_element(t, t + n) - t;
}

template <typename T>
void SoftmaxForward(const CpuKernels<T>& kernels, Tensor x, Tensor y) {
  const int64_t n = x.shape[x.shape.rank() - 1];
  if (n > 0) kernels.softmax(x.as<T>(), x.elements() / n, n, y.as<T>(), nullptr, nullptr);
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
void LogSoftmaxForward(const CpuKernels<T>& kernels, Tensor x, Tensor y) {
  const int64_t n = x.shape[x.shape.rank() - 1], rows = n == 0 ? 0 : x.elements() / n;
  for (int64_t i = 0; i < rows; ++i) {
    const T* px = x.as<T>() + i * n;
    T* py = y.as<T>() + i * n;
    T max, sum;
    kernels.softmax(px, 1, n, nullptr, &max, &sum);
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

// One row's target as a distribution over the classes, and the weight of the row.
template <typename T>
class CrossEntropyRow {
 public:
  CrossEntropyRow(const CrossEntropyArgs& args, Tensor targets, int64_t row, int64_t n)
      : distribution_(targets.type == DType::kI32 ? nullptr : targets.as<T>() + row * n),
        label_(LabelOf<T>(targets, row, n)),
        on_(1.0 - args.label_smoothing),
        off_(args.label_smoothing / static_cast<double>(n)) {
    if (label_ < 0 || label_ >= n) {
      weight_ = kUnknownLabel;
    } else if (args.class_weights.data != nullptr) {
      weight_ = args.class_weights.as<double>()[label_];
    }
  }

  double Target(int64_t j) const {
    const double t = distribution_ != nullptr ? static_cast<double>(distribution_[j]) : (j == label_ ? 1.0 : 0.0);
    return t * on_ + off_;
  }
  // Only the label's target is not 0, and it is 1.
  bool one_hot() const { return distribution_ == nullptr && off_ == 0.0; }
  int64_t label() const { return label_; }
  double weight() const { return weight_; }
  bool known() const { return !std::isnan(weight_); }

 private:
  const T* distribution_;
  int64_t label_;
  double on_;
  double off_;
  double weight_ = 1.0;
};

// From log p[j] = x[j] - max - log_sum; d: the row's p, or null, becomes the gradient.
template <typename T>
double SoftmaxCrossEntropyRow(const CrossEntropyRow<T>& row, const T* x, int64_t n, T max, T log_sum, double scale,
                              T* d) {
  const double factor = row.known() ? scale * row.weight() : scale;
  if (row.one_hot()) {
    if (d != nullptr) {
      const T f = static_cast<T>(factor);
      if (row.known()) d[row.label()] -= T(1);
      for (int64_t j = 0; j < n; ++j) d[j] *= f;
    }
    if (!row.known()) return kUnknownLabel;
    return row.weight() * (static_cast<double>(log_sum) - static_cast<double>(x[row.label()] - max));
  }
  double loss = 0, total = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double q = row.Target(j);
    total += q;
    // 0 log 0 = 0.
    if (q != 0) loss += q * (static_cast<double>(log_sum) - static_cast<double>(x[j] - max));
  }
  for (int64_t j = 0; d != nullptr && j < n; ++j) {
    d[j] = static_cast<T>((static_cast<double>(d[j]) * total - row.Target(j)) * factor);
  }
  return row.weight() * loss;
}

template <typename T>
void SoftmaxCrossEntropy(const CpuKernels<T>& kernels, const CrossEntropyArgs& args, Tensor logits, Tensor targets,
                         double scale, Tensor dlogits, Tensor sum) {
  // Rows at a time.
  constexpr int64_t kBlock = 64;
  T max[kBlock], total[kBlock];
  const int64_t rows = logits.shape[0], n = rows == 0 ? 0 : logits.elements() / rows;
  double loss = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* x = logits.as<T>() + i * n;
    T* const d = dlogits.data == nullptr ? nullptr : dlogits.as<T>() + i * n;
    const int64_t at = i % kBlock;
    if (at == 0) kernels.softmax(x, std::min(kBlock, rows - i), n, d, max, total);
    loss +=
        SoftmaxCrossEntropyRow(CrossEntropyRow<T>(args, targets, i, n), x, n, max[at], std::log(total[at]), scale, d);
  }
  sum.as<double>()[0] += loss;
}

template <typename T>
void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                  Tensor dprobabilities, Tensor sum) {
  const int64_t rows = probabilities.shape[0], n = rows == 0 ? 0 : probabilities.elements() / rows;
  double loss = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* p = probabilities.as<T>() + i * n;
    T* const d = dprobabilities.data == nullptr ? nullptr : dprobabilities.as<T>() + i * n;
    const CrossEntropyRow<T> row(args, targets, i, n);
    const double factor = row.known() ? scale * row.weight() : scale;
    double row_loss = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double q = row.Target(j), clamped = math::Clamp(static_cast<double>(p[j]), math::kProbabilityFloor, 1.0);
      if (q != 0) row_loss -= q * std::log(clamped);
      if (d != nullptr) d[j] = q != 0 ? static_cast<T>(-q * factor / clamped) : T(0);
    }
    loss += row.weight() * row_loss;
  }
  sum.as<double>()[0] += loss;
}

// A class index as a target, for one output.
inline double BinaryTarget(ElementLossKind kind, int32_t label) {
  if (label != 0 && label != 1) return kUnknownLabel;
  return kind == ElementLossKind::kHinge ? 2.0 * label - 1.0 : label;
}

template <typename T>
void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                 Tensor sum) {
  const int64_t rows = predictions.shape[0], n = rows == 0 ? 0 : predictions.elements() / rows;
  const double divisor = args.mean ? static_cast<double>(n) : 1.0;
  const bool labels = targets.type == DType::kI32;
  double loss = 0;
  VisitElementLoss(args, [&](const auto& math) {
    for (int64_t i = 0; i < rows; ++i) {
      double row = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double t = labels ? BinaryTarget(args.kind, targets.as<int32_t>()[i])
                                : static_cast<double>(targets.as<T>()[i * n + j]);
        const double p = static_cast<double>(predictions.as<T>()[i * n + j]);
        row += math.Value(p, t);
        if (dpredictions.data == nullptr) continue;
        dpredictions.as<T>()[i * n + j] = static_cast<T>(math.Gradient(p, t) / divisor * scale);
      }
      loss += row / divisor;
    }
  });
  sum.as<double>()[0] += loss;
}

}  // namespace lockstep::cpu
