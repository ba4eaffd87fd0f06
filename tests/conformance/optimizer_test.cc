// SPDX-License-Identifier: Apache-2.0
// Every optimizer against its formula in optimizer.proto, written out here once more and in double.
#include "worker/optim/optimizer.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

constexpr double kRate = 0.1;
constexpr int kSteps = 10;

// The weight after each step of one element that starts at `w`, with gradient g(step).
using Reference = std::vector<double> (*)(double w, double (*g)(int));

double Gradient(int step) { return 0.5 - 0.1 * step + 0.03 * step * step; }

std::vector<double> Plain(double w, double (*g)(int)) {
  std::vector<double> out;
  for (int t = 0; t < kSteps; ++t) out.push_back(w -= kRate * g(t));
  return out;
}

template <bool kNesterov>
std::vector<double> WithMomentum(double w, double (*g)(int)) {
  std::vector<double> out;
  double v = 0;
  for (int t = 0; t < kSteps; ++t) {
    v = 0.9 * v - kRate * g(t);
    out.push_back(w += kNesterov ? 0.9 * v - kRate * g(t) : v);
  }
  return out;
}

std::vector<double> AdamOf(double w, double (*g)(int)) {
  std::vector<double> out;
  double m = 0, v = 0;
  for (int t = 1; t <= kSteps; ++t) {
    m = 0.8 * m + 0.2 * g(t - 1);
    v = 0.99 * v + 0.01 * g(t - 1) * g(t - 1);
    const double rate = kRate * std::sqrt(1 - std::pow(0.99, t)) / (1 - std::pow(0.8, t));
    out.push_back(w -= rate * m / (std::sqrt(v) + 1e-3));
  }
  return out;
}

struct Row {
  std::string kind;
  std::string optimizer;
  Reference reference;
  std::vector<std::string> state;
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows{
      {"sgd", "sgd {}", Plain, {}},
      {"sgd", "sgd { momentum: 0.9 }", WithMomentum<false>, {"velocity"}},
      {"sgd", "sgd { momentum: 0.9 nesterov: true }", WithMomentum<true>, {"velocity"}},
      {"adam", "adam { beta_1: 0.8 beta_2: 0.99 epsilon: 1e-3 }", AdamOf, {"m", "v"}},
  };
  return rows;
}

class OptimizerConformance : public testing::TestWithParam<Row> {};

// 37 elements: whole vectors and a rest.
constexpr int64_t kElements = 37;

TEST_P(OptimizerConformance, FollowsItsFormula) {
  for (const DType type : {DType::kF32, DType::kF64}) {
    const auto device = MakeCpuDevice(1);
    Arrays arrays(device.get());
    const auto spec = FromText<v1::OptimizerSpec>(GetParam().optimizer);
    const auto optimizer = MakeOptimizer(spec, *device, kElements, type).value();
    const Tensor w = arrays.Random({kElements}, type, 1), g = arrays.Zeros({kElements}, type);
    std::vector<std::vector<double>> expected;
    for (int64_t i = 0; i < kElements; ++i) expected.push_back(GetParam().reference(Arrays::Get(w, i), Gradient));
    for (int t = 0; t < kSteps; ++t) {
      device->Fill(g, Gradient(t));
      optimizer->Step(*device, w, g, kRate, t);
      for (int64_t i = 0; i < kElements; ++i) {
        // About five roundings a step, each carried on and, with momentum, up to ten times.
        EXPECT_LE(RelativeError(Arrays::Get(w, i), expected[static_cast<size_t>(i)][static_cast<size_t>(t)]),
                  Tolerance(type, 5 * (t + 1)))
            << "step " << t << " element " << i;
      }
    }
  }
}

// Stopping, saving, restoring and going on changes no bit.
TEST_P(OptimizerConformance, RestoredStateGoesOnWithTheSameBits) {
  const auto device = MakeCpuDevice(1);
  Arrays arrays(device.get());
  const auto spec = FromText<v1::OptimizerSpec>(GetParam().optimizer);
  const auto first = MakeOptimizer(spec, *device, kElements, DType::kF32).value();
  const auto second = MakeOptimizer(spec, *device, kElements, DType::kF32).value();
  const Tensor a = arrays.Random({kElements}, DType::kF32, 1), b = arrays.Zeros({kElements}, DType::kF32);
  const Tensor g = arrays.Random({kElements}, DType::kF32, 2);
  for (int t = 0; t < 4; ++t) first->Step(*device, a, g, kRate, t);
  std::vector<std::string> names;
  auto from = first->State(), to = second->State();
  for (size_t i = 0; i < from.size(); ++i) {
    names.push_back(from[i].first);
    device->CopyFromHost(to[i].second.data, from[i].second.data, from[i].second.bytes());
  }
  EXPECT_EQ(names, GetParam().state);
  device->CopyFromHost(b.data, a.data, a.bytes());
  for (int t = 4; t < 8; ++t) {
    first->Step(*device, a, g, kRate, t);
    second->Step(*device, b, g, kRate, t);
  }
  EXPECT_TRUE(SameBits(a, b));
}

// The padding between tensors has a zero gradient and must stay zero.
TEST_P(OptimizerConformance, ZeroStaysZero) {
  const auto device = MakeCpuDevice(1);
  Arrays arrays(device.get());
  const auto optimizer =
      MakeOptimizer(FromText<v1::OptimizerSpec>(GetParam().optimizer), *device, 16, DType::kF32).value();
  const Tensor w = arrays.Zeros({16}, DType::kF32), g = arrays.Zeros({16}, DType::kF32);
  for (int t = 0; t < 3; ++t) optimizer->Step(*device, w, g, kRate, t);
  EXPECT_TRUE(SameBits(w, g));
}

INSTANTIATE_TEST_SUITE_P(Registry, OptimizerConformance, testing::ValuesIn(Rows()),
                         [](const auto& p) { return p.param.kind + "_" + std::to_string(p.index); });

TEST(OptimizerConformance, EveryOptimizerHasARow) {
  std::set<std::string> rows, kinds;
  for (const Row& row : Rows()) rows.insert(row.kind);
  const auto* oneof = v1::OptimizerSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) kinds.insert(oneof->field(i)->name());
  EXPECT_EQ(rows, kinds);
}

TEST(OptimizerConformance, DefaultsAreThoseOfTheContract) {
  const auto device = MakeCpuDevice(1);
  const auto rate = [&](const std::string& text) {
    return MakeOptimizer(FromText<v1::OptimizerSpec>(text), *device, 1, DType::kF32).value()->base_learning_rate();
  };
  EXPECT_EQ(rate("sgd {}"), 0.01);
  EXPECT_EQ(rate("sgd { learning_rate: 0.5 }"), 0.5);
  EXPECT_EQ(rate("adam {}"), 0.001);
  EXPECT_EQ(MakeOptimizer({}, *device, 1, DType::kF32).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::conformance
