// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/orthogonal.h"

#include <cmath>

#include "worker/device/math/random.h"

namespace lockstep {

namespace {

// Eight sums side by side, so that the order is fixed and yet done in parallel.
double Dot(const double* a, const double* b, int64_t n) {
  constexpr int64_t kLanes = 8;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  for (int64_t j = 0; i < n; ++i, ++j) lanes[j] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace

std::vector<double> OrthonormalVectors(int64_t count, int64_t length, const RngStream& stream) {
  std::vector<double> vectors(static_cast<size_t>(count * length));
  for (size_t i = 0; i < vectors.size(); ++i) vectors[i] = math::NormalOf(stream.Word(i), /*truncated=*/false);
  for (int64_t i = 0; i < count; ++i) {
    double* v = vectors.data() + i * length;
    // Gram and Schmidt, twice: what rounding leaves of the others after once is gone after twice.
    for (int round = 0; round < 2; ++round) {
      for (int64_t k = 0; k < i; ++k) {
        const double* q = vectors.data() + k * length;
        const double share = Dot(v, q, length);
        for (int64_t j = 0; j < length; ++j) v[j] -= share * q[j];
      }
    }
    const double norm = std::sqrt(Dot(v, v, length));
    for (int64_t j = 0; j < length; ++j) v[j] /= norm;
  }
  return vectors;
}

}  // namespace lockstep
