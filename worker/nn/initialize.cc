// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/initialize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/nn/orthogonal.h"

namespace lockstep {

namespace {

constexpr double kRange = 0.05;
constexpr double kStddev = 0.05;
// Of a normal distribution that is cut off at two standard deviations, by that of the whole one.
constexpr double kTruncatedStddev = 0.87962566103423978;

void CopyValues(Device& device, Tensor out, const std::vector<double>& values) {
  if (out.type == DType::kF64) {
    device.CopyFromHost(out.data, values.data(), out.bytes());
    return;
  }
  const std::vector<float> rounded(values.begin(), values.end());
  device.CopyFromHost(out.data, rounded.data(), out.bytes());
}

// The first axis is `rows`, all others `columns`.
void Orthogonal(Device& device, Tensor out, double gain, const RngStream& stream) {
  const int64_t rows = out.shape[0], columns = out.elements() / rows;
  const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
  const std::vector<double> vectors = OrthonormalVectors(count, length, stream);
  std::vector<double> values(vectors.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      values[i * columns + j] = gain * (rows <= columns ? vectors[i * length + j] : vectors[j * length + i]);
    }
  }
  CopyValues(device, out, values);
}

void Identity(Device& device, Tensor out, double gain) {
  const int64_t rows = out.shape[0], columns = out.elements() / rows;
  std::vector<double> values(static_cast<size_t>(rows * columns), 0.0);
  for (int64_t i = 0; i < std::min(rows, columns); ++i) values[i * columns + i] = gain;
  CopyValues(device, out, values);
}

}  // namespace

void InitializeTensor(Device& device, Tensor out, const ParameterPlan& plan, const RngStream& stream) {
  const v1::InitializerSpec& spec = plan.initializer;
  const double fan_in = static_cast<double>(plan.fan_in), fan_out = static_cast<double>(plan.fan_out);
  const auto uniform = [&](double squared_limit) {
    const double limit = std::sqrt(squared_limit);
    device.RandomUniform(out, stream, -limit, limit);
  };
  const auto truncated = [&](double variance) {
    device.RandomNormal(out, stream, {.stddev = std::sqrt(variance) / kTruncatedStddev, .truncated = true});
  };
  switch (spec.kind_case()) {
    case v1::InitializerSpec::kZeros:
    case v1::InitializerSpec::KIND_NOT_SET:
      return device.Fill(out, 0);
    case v1::InitializerSpec::kOnes:
      return device.Fill(out, 1);
    case v1::InitializerSpec::kConstant:
      return device.Fill(out, spec.constant().value());
    case v1::InitializerSpec::kRandomUniform: {
      const v1::RandomUniformInitializer& u = spec.random_uniform();
      return device.RandomUniform(out, stream, u.has_minval() ? u.minval() : -kRange,
                                  u.has_maxval() ? u.maxval() : kRange);
    }
    case v1::InitializerSpec::kRandomNormal: {
      const v1::RandomNormalInitializer& n = spec.random_normal();
      return device.RandomNormal(out, stream, {.mean = n.mean(), .stddev = n.has_stddev() ? n.stddev() : kStddev});
    }
    case v1::InitializerSpec::kTruncatedNormal: {
      const v1::TruncatedNormalInitializer& n = spec.truncated_normal();
      return device.RandomNormal(
          out, stream, {.mean = n.mean(), .stddev = n.has_stddev() ? n.stddev() : kStddev, .truncated = true});
    }
    case v1::InitializerSpec::kGlorotUniform:
      return uniform(6.0 / (fan_in + fan_out));
    case v1::InitializerSpec::kGlorotNormal:
      return truncated(2.0 / (fan_in + fan_out));
    case v1::InitializerSpec::kHeUniform:
      return uniform(6.0 / fan_in);
    case v1::InitializerSpec::kHeNormal:
      return truncated(2.0 / fan_in);
    case v1::InitializerSpec::kLecunUniform:
      return uniform(3.0 / fan_in);
    case v1::InitializerSpec::kLecunNormal:
      return truncated(1.0 / fan_in);
    case v1::InitializerSpec::kOrthogonal:
      return Orthogonal(device, out, spec.orthogonal().has_gain() ? spec.orthogonal().gain() : 1.0, stream);
    case v1::InitializerSpec::kIdentity:
      return Identity(device, out, spec.identity().has_gain() ? spec.identity().gain() : 1.0);
  }
}

}  // namespace lockstep
