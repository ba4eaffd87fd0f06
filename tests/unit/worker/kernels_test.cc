// SPDX-License-Identifier: Apache-2.0
// Every instruction set that this machine has, against the portable one.
#include "worker/device/cpu/kernels.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "common/rng.h"
#include "gtest/gtest.h"
#include "worker/device/math/activations.h"

namespace lockstep {
namespace {

std::vector<KernelChoice> Sets() {
  std::array<KernelChoice, 8> all;
  const int count = AvailableKernels(all.data(), static_cast<int>(all.size()));
  return {all.begin(), all.begin() + count};
}

template <typename T>
const CpuKernels<T>& Of(const KernelChoice& set);
template <>
const CpuKernels<float>& Of<float>(const KernelChoice& set) {
  return *set.f32;
}
template <>
const CpuKernels<double>& Of<double>(const KernelChoice& set) {
  return *set.f64;
}

template <typename T>
std::vector<T> Random(int64_t n, uint64_t stream) {
  const RngStream random{11, RngPurpose::kSynthetic, stream};
  std::vector<T> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(8.0f * random.Uniform(i) - 4.0f);
  return values;
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <typename T>
class KernelsTest : public testing::Test {};
using Precisions = testing::Types<float, double>;
TYPED_TEST_SUITE(KernelsTest, Precisions);

// All element-wise kernels and SumRows, at lengths around the vector widths.
TYPED_TEST(KernelsTest, EverySetHasTheSameBits) {
  using T = TypeParam;
  const auto run = [](const CpuKernels<T>& k, int64_t n) {
    std::vector<T> all;
    const auto keep = [&](const std::vector<T>& v) { all.insert(all.end(), v.begin(), v.end()); };
    const std::vector<T> a = Random<T>(3 * n, 1), b = Random<T>(3 * n, 2), bias = Random<T>(n, 3);
    std::vector<T> out(a.size());
    for (int kind = 0; kind <= static_cast<int>(Activation::kSoftplus); ++kind) {
      const ActivationArgs args{static_cast<Activation>(kind), 0.3};
      out = a;
      k.bias_activation(args, bias.data(), 3, n, out.data());
      keep(out);
      k.activation_backward(args, b.data(), a.data(), b.data(), 3 * n, out.data());
      keep(out);
    }
    k.scale_shift(a.data(), 3 * n, T(0.7), T(0.2), out.data());
    keep(out);
    k.norm_backward(a.data(), b.data(), 3 * n, T(0.7), T(0.2), T(-0.4), out.data());
    keep(out);
    double pairs[4] = {};
    k.square_sums(a.data(), 3 * n, pairs);
    k.product_sums(a.data(), b.data(), 3 * n, pairs + 2);
    for (const double pair : pairs) all.push_back(static_cast<T>(pair));
    k.add(a.data(), b.data(), out.data(), 3 * n);
    keep(out);
    std::vector<T> sums(static_cast<size_t>(n));
    k.sum_rows(a.data(), 3, n, sums.data());
    keep(sums);
    k.dropout(a.data(), 3, n, T(0.3), {1, RngPurpose::kDropout, 2}, 5, out.data());
    keep(out);
    keep({static_cast<T>(k.sum_squares(a.data(), 3 * n))});
    return all;
  };
  for (const int64_t n : {1, 7, 8, 15, 16, 17, 33, 100}) {
    const std::vector<T> expected = run(Of<T>(Sets().back()), n);
    for (const KernelChoice& set : Sets()) EXPECT_TRUE(SameBits(run(Of<T>(set), n), expected)) << set.name << " " << n;
  }
}

// Every rule, with and without decay.
TYPED_TEST(KernelsTest, UpdatesHaveTheSameBitsInEverySet) {
  using T = TypeParam;
  double squares[2] = {2.5, 0.75};
  UpdateArgs args{.step_size = 0.1,
                  .weight_decay = 0.01,
                  .beta_1 = 0.9,
                  .beta_2 = 0.99,
                  .epsilon = 1e-3,
                  .gradient_step = 0.05,
                  .correction_1 = 1.5,
                  .correction_2 = 1.25,
                  .trust = 0.02,
                  .limit = 0.5,
                  .l1 = 0.1,
                  .l2 = 0.2,
                  .norms = {squares, Shape{2}, DType::kF64}};
  const auto run = [&](const CpuKernels<T>& k, UpdateRule rule, int64_t n) {
    std::vector<T> w = Random<T>(n, 1), g = Random<T>(n, 2), m = Random<T>(n, 3), v = Random<T>(n, 4);
    // A second moment is not less than the squared first one.
    for (T& x : v) x = std::abs(x) + T(16);
    std::vector<T> third = v;
    const bool mean_is_second = rule == UpdateRule::kRmsprop || rule == UpdateRule::kRmspropMomentum ||
                                rule == UpdateRule::kRmspropCentered || rule == UpdateRule::kRmspropCenteredMomentum ||
                                rule == UpdateRule::kAdagrad;
    T* state[kMaxUpdateStates] = {mean_is_second ? v.data() : m.data(), mean_is_second ? m.data() : v.data(),
                                  third.data()};
    k.update(rule, args, w.data(), g.data(), state, n);
    for (const auto* more : {&g, &m, &v, &third}) w.insert(w.end(), more->begin(), more->end());
    for (const T x : w) EXPECT_TRUE(std::isfinite(x));
    return w;
  };
  for (int rule = 0; rule <= static_cast<int>(UpdateRule::kSwap); ++rule) {
    for (const double decay : {0.0, 0.01}) {
      args.decay = decay;
      for (const int64_t n : {1, 15, 16, 33, 100}) {
        const std::vector<T> expected = run(Of<T>(Sets().back()), static_cast<UpdateRule>(rule), n);
        for (const KernelChoice& set : Sets()) {
          EXPECT_TRUE(SameBits(run(Of<T>(set), static_cast<UpdateRule>(rule), n), expected))
              << set.name << " rule " << rule << " n " << n;
        }
      }
    }
  }
}

template <typename T>
std::vector<T> Multiply(const CpuKernels<T>& k, int64_t m, int64_t n, int64_t depth, bool ta, bool tb,
                        bool accumulate) {
  const std::vector<T> a = Random<T>(m * depth, 1), b = Random<T>(depth * n, 2);
  std::vector<T> out = Random<T>(m * n, 3);
  alignas(64) static unsigned char pack[kGemmPackBytes];
  GemmProblem<T> g;
  g.m = m, g.n = n, g.k = depth;
  g.a = a.data();
  g.a_row = ta ? 1 : depth, g.a_column = ta ? m : 1;
  g.b = b.data();
  g.transpose_b = tb;
  g.out = out.data();
  g.accumulate = accumulate;
  g.pack = reinterpret_cast<T*>(pack);
  k.gemm(g);
  return out;
}

// Each value is its sum in order, in fused steps or in separate ones, bit for bit. This holds for all
// shapes, so a row has the same bits in any batch.
TYPED_TEST(KernelsTest, ProductsAreSumsInOrder) {
  using T = TypeParam;
  for (const auto& [m, n, depth] : {std::array<int64_t, 3>{1, 1, 1},
                                    {8, 16, 32},
                                    {9, 10, 33},
                                    {5, 47, 3},
                                    {13, 33, 64},
                                    {3, 20, 0},
                                    {2, 18, 5000}}) {
    for (int flags = 0; flags < 8; ++flags) {
      const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0, accumulate = (flags & 4) != 0;
      const std::vector<T> a = Random<T>(m * depth, 1), b = Random<T>(depth * n, 2);
      std::vector<T> fused = Random<T>(m * n, 3), separate = fused;
      for (int64_t i = 0; i < m * n; ++i) {
        T f = accumulate ? fused[static_cast<size_t>(i)] : T(0), s = f;
        for (int64_t p = 0; p < depth; ++p) {
          const T x = a[static_cast<size_t>(ta ? p * m + i / n : i / n * depth + p)];
          const T y = b[static_cast<size_t>(tb ? i % n * depth + p : p * n + i % n)];
          f = std::fma(x, y, f);
          s += x * y;
        }
        fused[static_cast<size_t>(i)] = f;
        separate[static_cast<size_t>(i)] = s;
      }
      for (const KernelChoice& set : Sets()) {
        const bool fuses = sizeof(T) == 4 && std::string(set.name) != "portable";
        EXPECT_TRUE(SameBits(Multiply(Of<T>(set), m, n, depth, ta, tb, accumulate), fuses ? fused : separate))
            << set.name << " " << m << "x" << n << "x" << depth << " flags " << flags;
      }
    }
  }
}

TEST(Bf16Test, IsTheNearestAndTheEvenOneOfTwo) {
  const std::vector<std::pair<uint32_t, uint16_t>> cases{
      {0x3f800000, 0x3f80},  // 1
      {0x3f808000, 0x3f80},  // halfway, even below
      {0x3f818000, 0x3f82},  // halfway, even above
      {0x3f808001, 0x3f81}, {0x3f817fff, 0x3f81}, {0xbf808001, 0xbf81},
      {0x80000000, 0x8000}, {0x7f7fffff, 0x7f80},                        // beyond the largest
      {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},  // no number, and stays none
      {0xffffffff, 0xffff}, {0x00008001, 0x0001}};
  std::vector<float> x;
  for (const auto& [bits, expected] : cases) x.push_back(std::bit_cast<float>(bits));
  for (const KernelChoice& set : Sets()) {
    std::vector<uint16_t> y(x.size());
    std::vector<float> rounded(x.size());
    set.f32->to_bf16(x.data(), static_cast<int64_t>(x.size()), y.data());
    set.f32->round_bf16(x.data(), static_cast<int64_t>(x.size()), rounded.data());
    for (size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(y[i], cases[i].second) << set.name << " " << std::hex << cases[i].first;
      EXPECT_EQ(std::bit_cast<uint32_t>(rounded[i]), uint32_t{cases[i].second} << 16) << set.name;
    }
  }
}

// In units of the last place of the true value.
double Ulps(float got, double expected) {
  const double next = std::nextafter(static_cast<float>(std::abs(expected)), INFINITY);
  return std::abs(static_cast<double>(got) - expected) / (next - static_cast<float>(std::abs(expected)));
}

TEST(MathTest, ExpAndTanhAreWithinTwoUnitsInTheLastPlace) {
  double worst_exp = 0, worst_tanh = 0;
  for (int i = 0; i < 400'000; ++i) {
    const float x = -87.0f + 175.0f * static_cast<float>(i) / 400'000.0f;
    worst_exp = std::max(worst_exp, Ulps(math::Exp(x), std::exp(static_cast<double>(x))));
    const float t = x / 8.0f;
    worst_tanh = std::max(worst_tanh, Ulps(math::TanhOf(t), std::tanh(static_cast<double>(t))));
  }
  EXPECT_LE(worst_exp, 2.0);
  EXPECT_LE(worst_tanh, 2.0);
}

TEST(MathTest, EdgesAreWhatOneExpects) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  EXPECT_EQ(math::Exp(0.0f), 1.0f);
  EXPECT_EQ(math::Exp(-infinity), 0.0f);
  EXPECT_EQ(math::Exp(-100.0f), 0.0f);
  EXPECT_GT(math::Exp(infinity), 1e38f);
  EXPECT_TRUE(std::isnan(math::Exp(nan)));
  EXPECT_EQ(math::TanhOf(infinity), 1.0f);
  EXPECT_EQ(math::TanhOf(-infinity), -1.0f);
  EXPECT_TRUE(std::isnan(math::TanhOf(nan)));
  EXPECT_TRUE(std::isnan(ReluMath{}.Forward(nan)));
  EXPECT_EQ(SigmoidMath{}.Forward(-1000.0f), 0.0f);
  EXPECT_EQ(SigmoidMath{}.Forward(1000.0f), 1.0f);
}

}  // namespace
}  // namespace lockstep
