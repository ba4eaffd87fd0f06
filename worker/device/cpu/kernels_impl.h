// SPDX-License-Identifier: Apache-2.0
// The bodies of Kernels. Each kernels_*.cc defines LOCKSTEP_KERNEL_SET (the table's name),
// LOCKSTEP_KERNEL_NAME and LOCKSTEP_KERNEL_VECTOR (the header of its Vec<float>), and is compiled for
// its instruction set. All is in an unnamed namespace or forced inline, so that no code of one
// instruction set is shared with another.
#include "worker/device/cpu/kernels.h"
#include "worker/device/math/activations.h"
#include "worker/device/math/losses.h"
#include "worker/device/math/optimizers.h"

#define INLINE __attribute__((always_inline)) inline

namespace lockstep::cpu {
namespace {

#include "worker/device/cpu/vector_impl.h"
// Specialises Vec.
#include LOCKSTEP_KERNEL_VECTOR
// Uses Vec.
#include "worker/device/cpu/gemm_impl.h"

// Calls body(functor) for the functor of `kind`.
template <typename Body>
INLINE void WithActivation(ActivationKind kind, Body body) {
  switch (kind) {
    case ActivationKind::kLinear:
      return body(math::Linear{});
    case ActivationKind::kRelu:
      return body(math::Relu{});
    case ActivationKind::kSigmoid:
      return body(math::Sigmoid{});
    case ActivationKind::kTanh:
      return body(math::Tanh{});
  }
}

template <typename T>
void BiasActivation(ActivationKind kind, T* x, const T* bias, int64_t rows, int64_t n) {
  WithActivation(kind, [=](auto f) __attribute__((always_inline)) {
    for (int64_t i = 0; i < rows; ++i) {
      T* __restrict row = x + i * n;
      if (bias != nullptr) {
        for (int64_t j = 0; j < n; ++j) row[j] = f.Forward(row[j] + bias[j]);
      } else {
        for (int64_t j = 0; j < n; ++j) row[j] = f.Forward(row[j]);
      }
    }
  });
}

template <typename T>
void ActivationForward(ActivationKind kind, const T* x, T* y, int64_t n) {
  WithActivation(kind, [=](auto f) __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; ++i) y[i] = f.Forward(x[i]);
  });
}

template <typename T>
void ActivationBackward(ActivationKind kind, const T* y, const T* dy, T* dx, int64_t n) {
  WithActivation(kind, [=](auto f) __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; ++i) dx[i] = f.Backward(y[i], dy[i]);
  });
}

template <typename T>
void SumRows(const T* dy, T* __restrict out, int64_t rows, int64_t n) {
  for (int64_t j = 0; j < n; ++j) out[j] = T(0);
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = dy + i * n;
    for (int64_t j = 0; j < n; ++j) out[j] += row[j];
  }
}

template <typename T>
INLINE T Maximum(const T* x, int64_t n) {
  T max = x[0];
  for (int64_t j = 1; j < n; ++j) max = x[j] > max ? x[j] : max;
  return max;
}

template <typename T>
INLINE int64_t ArgMax(const T* x, int64_t n) {
  int64_t best = 0;
  for (int64_t j = 1; j < n; ++j) best = x[j] > x[best] ? j : best;
  return best;
}

template <typename T>
void SoftmaxForward(const T* x, T* y, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i, x += n, y += n) {
    const T max = Maximum(x, n);
    for (int64_t j = 0; j < n; ++j) y[j] = math::Exp(x[j] - max);
    T sum = T(0);
    for (int64_t j = 0; j < n; ++j) sum += y[j];
    const T inverse = T(1) / sum;
    for (int64_t j = 0; j < n; ++j) y[j] *= inverse;
  }
}

template <typename T>
void SoftmaxBackward(const T* y, const T* dy, T* dx, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i, y += n, dy += n, dx += n) {
    T dot = T(0);
    for (int64_t j = 0; j < n; ++j) dot += dy[j] * y[j];
    for (int64_t j = 0; j < n; ++j) dx[j] = y[j] * (dy[j] - dot);
  }
}

template <typename T>
void SoftmaxCrossEntropy(const T* x, const int32_t* labels, double scale, T* dx, double* stats, int64_t rows,
                         int64_t n) {
  const T s = static_cast<T>(scale);
  double loss = 0, correct = 0;
  for (int64_t i = 0; i < rows; ++i, x += n) {
    const T max = Maximum(x, n);
    const int64_t label = labels[i];
    T sum = T(0);
    if (dx != nullptr) {
      for (int64_t j = 0; j < n; ++j) dx[j] = math::Exp(x[j] - max);
      for (int64_t j = 0; j < n; ++j) sum += dx[j];
    } else {
      for (int64_t j = 0; j < n; ++j) sum += math::Exp(x[j] - max);
    }
    const bool known = label >= 0 && label < n;
    loss += known ? ::log(static_cast<double>(sum)) - (static_cast<double>(x[label]) - static_cast<double>(max))
                  : __builtin_nan("");
    correct += ArgMax(x, n) == label ? 1.0 : 0.0;
    if (dx != nullptr) {
      const T inverse = T(1) / sum;
      for (int64_t j = 0; j < n; ++j) {
        dx[j] = known ? math::SoftmaxCrossEntropyGradient(dx[j], inverse, j == label, s) : T(0);
      }
      dx += n;
    }
  }
  stats[0] += loss;
  stats[1] += correct;
}

template <typename T>
void CrossEntropy(const T* p, const int32_t* labels, double scale, T* dp, double* stats, int64_t rows, int64_t n) {
  double loss = 0, correct = 0;
  for (int64_t i = 0; i < rows; ++i, p += n) {
    const int64_t label = labels[i];
    const bool known = label >= 0 && label < n;
    loss += known ? -::log(static_cast<double>(math::ClampProbability(p[label]))) : __builtin_nan("");
    correct += ArgMax(p, n) == label ? 1.0 : 0.0;
    if (dp != nullptr) {
      for (int64_t j = 0; j < n; ++j) dp[j] = T(0);
      if (known) dp[label] = math::CrossEntropyGradient(p[label], static_cast<T>(scale));
      dp += n;
    }
  }
  stats[0] += loss;
  stats[1] += correct;
}

template <typename T>
void MeanSquaredError(const T* p, const T* t, double scale, T* dp, double* stats, int64_t rows, int64_t n) {
  double mean = 0, squared = 0, target = 0, target_squared = 0;
  for (int64_t i = 0; i < rows; ++i) {
    double row = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double y = static_cast<double>(t[i * n + j]);
      const double d = static_cast<double>(p[i * n + j]) - y;
      row += d * d;
      target += y;
      target_squared += y * y;
    }
    mean += row / static_cast<double>(n);
    squared += row;
  }
  if (dp != nullptr) {
    const T scale2 = static_cast<T>(2.0 * scale / static_cast<double>(n));
    for (int64_t i = 0; i < rows * n; ++i) dp[i] = math::SquaredErrorGradient(p[i], t[i], scale2);
  }
  stats[0] += mean;
  stats[1] += squared;
  stats[2] += target;
  stats[3] += target_squared;
}

template <typename T>
void Fill(T* out, T value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

template <typename T>
void Add(const T* a, const T* b, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

template <typename From, typename T>
void Convert(const From* row, float scale, float offset, T* __restrict out, int64_t n) {
  const T s = static_cast<T>(scale), o = static_cast<T>(offset);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(row[i]) * s + o;
}

template <typename T>
void Sgd(T* __restrict w, const T* __restrict g, double learning_rate, int64_t n) {
  const math::SgdUpdate<T> update{static_cast<T>(learning_rate)};
  for (int64_t i = 0; i < n; ++i) w[i] = update(w[i], g[i]);
}

template <typename T>
void Momentum(T* __restrict w, const T* __restrict g, T* __restrict v, double learning_rate, double momentum,
              bool nesterov, int64_t n) {
  const math::MomentumUpdate<T> update{static_cast<T>(learning_rate), static_cast<T>(momentum)};
  if (nesterov) {
    for (int64_t i = 0; i < n; ++i) w[i] = update.template Apply<true>(w[i], g[i], v[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) w[i] = update.template Apply<false>(w[i], g[i], v[i]);
  }
}

template <typename T>
void Adam(T* __restrict w, const T* __restrict g, T* __restrict m, T* __restrict v, const AdamConstants& c, int64_t n) {
  const auto update = math::MakeAdamUpdate<T>(c.learning_rate, c.beta_1, c.beta_2, c.epsilon, c.t);
  for (int64_t i = 0; i < n; ++i) w[i] = update.Apply(w[i], g[i], m[i], v[i]);
}

// x - x is 0 for a finite x and NaN for all others.
template <typename T>
bool AllFinite(const T* x, int64_t n) {
  constexpr int64_t kBlock = 4096;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t end = i + kBlock < n ? i + kBlock : n;
    int bad = 0;
    for (int64_t j = i; j < end; ++j) bad |= (x[j] - x[j] != T(0));
    if (bad != 0) return false;
  }
  return true;
}

template <typename T>
constexpr Kernels<T> Table() {
  return {.gemm = Gemm<T>,
          .bias_activation = BiasActivation<T>,
          .activation_forward = ActivationForward<T>,
          .activation_backward = ActivationBackward<T>,
          .sum_rows = SumRows<T>,
          .softmax_forward = SoftmaxForward<T>,
          .softmax_backward = SoftmaxBackward<T>,
          .softmax_cross_entropy = SoftmaxCrossEntropy<T>,
          .cross_entropy = CrossEntropy<T>,
          .mean_squared_error = MeanSquaredError<T>,
          .fill = Fill<T>,
          .add = Add<T>,
          .convert_u8 = Convert<uint8_t, T>,
          .convert = Convert<T, T>,
          .sgd = Sgd<T>,
          .momentum = Momentum<T>,
          .adam = Adam<T>,
          .all_finite = AllFinite<T>};
}

}  // namespace

constinit const KernelSet LOCKSTEP_KERNEL_SET = {LOCKSTEP_KERNEL_NAME, Table<float>(), Table<double>()};

}  // namespace lockstep::cpu
