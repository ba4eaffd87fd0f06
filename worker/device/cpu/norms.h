// SPDX-License-Identifier: Apache-2.0
// Normalisation on the CPU. Sums are kept in double, in an order that does not depend on the machine.
#pragma once

#include <algorithm>
#include <cmath>

#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

// x as [rows, channels, places].
struct Planes {
  explicit Planes(const Tensor& x)
      : rows(x.shape[0]), channels(x.shape[1]), places(x.elements() / (x.shape[0] * x.shape[1])) {}
  int64_t rows, channels, places;
};

template <typename T>
void ChannelSums(const CpuKernels<T>& kernels, Tensor x, Tensor sums) {
  const Planes planes(x);
  double* s = sums.as<double>();
  if (planes.places == 1) {
    for (int64_t i = 0; i < planes.rows; ++i) {
      const T* row = x.as<T>() + i * planes.channels;
      for (int64_t c = 0; c < planes.channels; ++c) {
        const double v = static_cast<double>(row[c]);
        s[c] += v;
        s[planes.channels + c] += v * v;
      }
    }
    return;
  }
  for (int64_t i = 0; i < planes.rows; ++i) {
    for (int64_t c = 0; c < planes.channels; ++c) {
      double pair[2] = {s[c], s[planes.channels + c]};
      kernels.square_sums(x.as<T>() + (i * planes.channels + c) * planes.places, planes.places, pair);
      s[c] = pair[0];
      s[planes.channels + c] = pair[1];
    }
  }
}

inline void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) {
  const int64_t channels = sums.shape[1];
  const double* s = sums.as<double>();
  double* out = statistics.as<double>();
  for (int64_t c = 0; c < channels; ++c) {
    const double mean = s[c] / count;
    // Rounding may leave a constant channel a hair below zero.
    const double variance = std::max(0.0, s[channels + c] / count - mean * mean);
    out[c] = mean;
    out[channels + c] = 1.0 / std::sqrt(variance + epsilon);
    out[2 * channels + c] = variance;
  }
}

template <typename T>
void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) {
  const int64_t channels = mean.elements();
  double* out = statistics.as<double>();
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = static_cast<double>(mean.as<T>()[c]);
    out[2 * channels + c] = static_cast<double>(variance.as<T>()[c]);
    out[channels + c] = 1.0 / std::sqrt(out[2 * channels + c] + epsilon);
  }
}

template <typename T>
void ChannelNormForward(const CpuKernels<T>& kernels, Tensor x, Tensor statistics, Tensor gamma, Tensor beta,
                        Tensor y) {
  const Planes planes(x);
  const double* mean = statistics.as<double>();
  const double* inverse = mean + planes.channels;
  for (int64_t i = 0; i < planes.rows; ++i) {
    for (int64_t c = 0; c < planes.channels; ++c) {
      const double scale = inverse[c] * (gamma.data == nullptr ? 1.0 : static_cast<double>(gamma.as<T>()[c]));
      const double shift = (beta.data == nullptr ? 0.0 : static_cast<double>(beta.as<T>()[c])) - mean[c] * scale;
      const int64_t at = (i * planes.channels + c) * planes.places;
      kernels.scale_shift(x.as<T>() + at, planes.places, static_cast<T>(scale), static_cast<T>(shift), y.as<T>() + at);
    }
  }
}

template <typename T>
void ChannelNormSums(const CpuKernels<T>& kernels, Tensor x, Tensor statistics, Tensor dy, Tensor sums) {
  const Planes planes(x);
  const double* mean = statistics.as<double>();
  const double* inverse = mean + planes.channels;
  double* s = sums.as<double>();
  for (int64_t i = 0; i < planes.rows; ++i) {
    for (int64_t c = 0; c < planes.channels; ++c) {
      const int64_t at = (i * planes.channels + c) * planes.places;
      double pair[2] = {0, 0};
      kernels.product_sums(x.as<T>() + at, dy.as<T>() + at, planes.places, pair);
      s[c] += pair[0];
      s[planes.channels + c] += (pair[1] - mean[c] * pair[0]) * inverse[c];
    }
  }
}

template <typename T>
void ChannelNormBackward(const CpuKernels<T>& kernels, Tensor x, Tensor statistics, Tensor gamma, Tensor sums,
                         double count, Tensor dy, Tensor dx) {
  const Planes planes(x);
  const double* mean = statistics.as<double>();
  const double* inverse = mean + planes.channels;
  const double* s = sums.as<double>();
  for (int64_t i = 0; i < planes.rows; ++i) {
    for (int64_t c = 0; c < planes.channels; ++c) {
      const double a = inverse[c] * (gamma.data == nullptr ? 1.0 : static_cast<double>(gamma.as<T>()[c]));
      const double per_dy = count > 0 ? s[c] / count : 0.0;
      const double per_x = count > 0 ? s[planes.channels + c] / count * inverse[c] : 0.0;
      const int64_t at = (i * planes.channels + c) * planes.places;
      kernels.norm_backward(x.as<T>() + at, dy.as<T>() + at, planes.places, static_cast<T>(a),
                            static_cast<T>(-a * per_x), static_cast<T>(a * (per_x * mean[c] - per_dy)),
                            dx.as<T>() + at);
    }
  }
}

// One group of one row, and where its scale and shift begin.
template <typename T, typename Visit>
void ForGroups(const RowNormArgs& args, const Tensor& x, Visit visit) {
  const int64_t rows = x.shape[0], n = rows == 0 ? 0 : x.elements() / rows, size = n / args.groups;
  for (int64_t i = 0; i < rows * args.groups; ++i) visit(i, i * size, size, (i % args.groups) * size / args.spatial);
}

template <typename T>
void RowNormForward(const CpuKernels<T>& kernels, const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta,
                    Tensor statistics, Tensor y) {
  ForGroups<T>(args, x, [&](int64_t group, int64_t at, int64_t size, int64_t channel) {
    const T* from = x.as<T>() + at;
    double sums[2] = {0, 0};
    kernels.square_sums(from, size, sums);
    const double n = static_cast<double>(size), mean = sums[0] / n;
    // Second pass: the difference of two large sums would lose the variance of far-off values.
    double squares = 0;
    for (int64_t j = 0; j < size; ++j) {
      const double d = static_cast<double>(from[j]) - mean;
      squares += d * d;
    }
    const double inverse = 1.0 / std::sqrt(squares / n + args.epsilon);
    statistics.as<double>()[2 * group] = mean;
    statistics.as<double>()[2 * group + 1] = inverse;
    if (args.spatial == 1) {
      T* to = y.as<T>() + at;
      const T minus_mean = static_cast<T>(-mean * inverse), factor = static_cast<T>(inverse);
      kernels.scale_shift(from, size, factor, minus_mean, to);
      if (gamma.data != nullptr) {
        for (int64_t j = 0; j < size; ++j) to[j] *= gamma.as<T>()[channel + j];
      }
      if (beta.data != nullptr) kernels.add(to, beta.as<T>() + channel, to, size);
      return;
    }
    for (int64_t j = 0; j < size; j += args.spatial) {
      const int64_t c = channel + j / args.spatial;
      const double scale = inverse * (gamma.data == nullptr ? 1.0 : static_cast<double>(gamma.as<T>()[c]));
      const double shift = (beta.data == nullptr ? 0.0 : static_cast<double>(beta.as<T>()[c])) - mean * scale;
      kernels.scale_shift(from + j, args.spatial, static_cast<T>(scale), static_cast<T>(shift), y.as<T>() + at + j);
    }
  });
}

template <typename T>
void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                     Tensor dgamma, Tensor dbeta) {
  if (dgamma.data != nullptr) std::fill_n(dgamma.as<T>(), dgamma.elements(), T(0));
  if (dbeta.data != nullptr) std::fill_n(dbeta.as<T>(), dbeta.elements(), T(0));
  ForGroups<T>(args, x, [&](int64_t group, int64_t at, int64_t size, int64_t channel) {
    const T* px = x.as<T>() + at;
    const T* pdy = dy.as<T>() + at;
    const double mean = statistics.as<double>()[2 * group], inverse = statistics.as<double>()[2 * group + 1];
    const auto scale = [&](int64_t c) { return gamma.data == nullptr ? 1.0 : static_cast<double>(gamma.as<T>()[c]); };
    double sum = 0, product = 0;
    for (int64_t j = 0; j < size; ++j) {
      const int64_t c = channel + j / args.spatial;
      const double d = static_cast<double>(pdy[j]), xhat = (static_cast<double>(px[j]) - mean) * inverse;
      sum += d * scale(c);
      product += d * scale(c) * xhat;
      if (dgamma.data != nullptr) dgamma.as<T>()[c] += static_cast<T>(d * xhat);
      if (dbeta.data != nullptr) dbeta.as<T>()[c] += pdy[j];
    }
    if (dx.data == nullptr) return;
    const double n = static_cast<double>(size);
    for (int64_t j = 0; j < size; ++j) {
      const double xhat = (static_cast<double>(px[j]) - mean) * inverse;
      const double d = static_cast<double>(pdy[j]) * scale(channel + j / args.spatial);
      dx.as<T>()[at + j] = static_cast<T>(inverse * (d - sum / n - xhat * product / n));
    }
  });
}

}  // namespace lockstep::cpu
