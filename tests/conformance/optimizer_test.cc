// SPDX-License-Identifier: Apache-2.0
// Every optimizer against its formula in optimizer.proto, written out here once more and in double.
#include "worker/optim/optimizer.h"

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

constexpr double kRate = 0.1;
constexpr int kSteps = 10;
// 37 elements: whole vectors and a rest.
constexpr int64_t kElements = 37;

// One tensor and what the formula remembers of it.
struct Plain {
  std::vector<double> w;
  std::map<std::string, std::vector<double>> state;

  std::vector<double>& Of(const std::string& name, double start = 0) {
    return state.try_emplace(name, w.size(), start).first->second;
  }
};
// Update number t (from 1).
using Reference = std::function<void(Plain& p, const std::vector<double>& g, int t)>;

double Norm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}
double Sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

// A formula of one element: w, g, states in order.
template <typename F>
Reference Each(std::vector<std::string> names, F formula, double start = 0) {
  return [=](Plain& p, const std::vector<double>& g, int t) {
    for (size_t i = 0; i < p.w.size(); ++i) {
      std::vector<double*> s;
      for (const std::string& name : names) s.push_back(&p.Of(name, start)[i]);
      formula(p.w[i], g[i], s, t);
    }
  };
}

void Moments(double g, double b1, double b2, std::vector<double*>& s) {
  *s[0] = b1 * *s[0] + (1 - b1) * g;
  *s[1] = b2 * *s[1] + (1 - b2) * g * g;
}
double AdamRate(int t) { return kRate * std::sqrt(1 - std::pow(0.99, t)) / (1 - std::pow(0.8, t)); }

Reference Momentum(bool nesterov) {
  return Each({"v"}, [=](double& w, double g, std::vector<double*>& s, int) {
    *s[0] = 0.9 * *s[0] - kRate * g;
    w += nesterov ? 0.9 * *s[0] - kRate * g : *s[0];
  });
}
Reference Adam(double decay, bool amsgrad) {
  return Each({"m", "v", "l"}, [=](double& w, double g, std::vector<double*>& s, int t) {
    w -= kRate * decay * w;
    Moments(g, 0.8, 0.99, s);
    *s[2] = amsgrad ? std::max(*s[2], *s[1]) : *s[1];
    w -= AdamRate(t) * *s[0] / (std::sqrt(*s[2]) + 1e-3);
  });
}
Reference Nadam() {
  return Each({"m", "v"}, [](double& w, double g, std::vector<double*>& s, int t) {
    const auto u = [](int i) { return 0.8 * (1 - 0.5 * std::pow(0.96, i)); };
    double product = 1;
    for (int i = 1; i <= t; ++i) product *= u(i);
    Moments(g, 0.8, 0.99, s);
    w -= kRate * (u(t + 1) * *s[0] / (1 - product * u(t + 1)) + (1 - u(t)) * g / (1 - product)) /
         (std::sqrt(*s[1] / (1 - std::pow(0.99, t))) + 1e-3);
  });
}
Reference Adagrad() {
  return Each(
      {"a"},
      [](double& w, double g, std::vector<double*>& s, int) {
        *s[0] += g * g;
        w -= kRate * g / std::sqrt(*s[0] + 1e-3);
      },
      0.1);
}
Reference Rmsprop(double momentum, bool centered) {
  return Each({"v", "mean", "b"}, [=](double& w, double g, std::vector<double*>& s, int) {
    *s[0] = 0.9 * *s[0] + 0.1 * g * g;
    *s[1] = 0.9 * *s[1] + 0.1 * g;
    *s[2] = momentum * *s[2] + kRate * g / std::sqrt(*s[0] - (centered ? *s[1] * *s[1] : 0) + 1e-3);
    w -= *s[2];
  });
}
Reference Lion() {
  return Each({"m"}, [](double& w, double g, std::vector<double*>& s, int) {
    w -= kRate * Sign(0.9 * *s[0] + 0.1 * g);
    *s[0] = 0.99 * *s[0] + 0.01 * g;
  });
}
Reference Lamb(double decay) {
  return [=](Plain& p, const std::vector<double>& g, int t) {
    std::vector<double> u;
    for (size_t i = 0; i < p.w.size(); ++i) {
      std::vector<double*> s{&p.Of("m")[i], &p.Of("v")[i]};
      Moments(g[i], 0.8, 0.99, s);
      const double m = *s[0] / (1 - std::pow(0.8, t)), v = *s[1] / (1 - std::pow(0.99, t));
      u.push_back(m / (std::sqrt(v) + 1e-3) + decay * p.w[i]);
    }
    const double a = Norm(p.w), b = Norm(u), ratio = a > 0 && b > 0 ? a / b : 1;
    for (size_t i = 0; i < p.w.size(); ++i) p.w[i] -= kRate * ratio * u[i];
  };
}
Reference Lars(double decay) {
  return [=](Plain& p, const std::vector<double>& g, int) {
    const double a = Norm(p.w), b = Norm(g);
    const double l = a > 0 && b > 0 ? 0.05 * a / (b + decay * a + 1e-8) : 1;
    for (size_t i = 0; i < p.w.size(); ++i) {
      double& v = p.Of("v")[i];
      v = 0.9 * v + kRate * l * (g[i] + decay * p.w[i]);
      p.w[i] -= v;
    }
  };
}

struct Row {
  std::string kind;
  std::string optimizer;
  Reference reference;
  std::vector<std::string> state;
  // Lion's step depends on a sign alone; a number that is near zero may have either in float.
  std::vector<DType> types = {DType::kF32, DType::kF64};
};

const std::vector<Row>& Rows() {
  static const std::string adam = "beta_1: 0.8 beta_2: 0.99 epsilon: 1e-3";
  static const std::vector<Row> rows{
      {"sgd", "sgd {}", Each({}, [](double& w, double g, std::vector<double*>&, int) { w -= kRate * g; }), {}},
      {"sgd", "sgd { momentum: 0.9 }", Momentum(false), {"velocity"}},
      {"sgd", "sgd { momentum: 0.9 nesterov: true }", Momentum(true), {"velocity"}},
      {"adam", "adam { " + adam + " }", Adam(0, false), {"m", "v"}},
      {"adam", "adam { " + adam + " amsgrad: true }", Adam(0, true), {"m", "v", "v_largest"}},
      {"adamw", "adamw { " + adam + " }", Adam(0.004, false), {"m", "v"}},
      {"adamw", "adamw { " + adam + " amsgrad: true } weight_decay: 0.5", Adam(0.5, true), {"m", "v", "v_largest"}},
      {"nadam", "nadam { " + adam + " }", Nadam(), {"m", "v"}},
      {"adagrad", "adagrad { epsilon: 1e-3 }", Adagrad(), {"accumulator"}},
      {"rmsprop", "rmsprop { epsilon: 1e-3 }", Rmsprop(0, false), {"v"}},
      {"rmsprop", "rmsprop { epsilon: 1e-3 momentum: 0.5 }", Rmsprop(0.5, false), {"v", "buffer"}},
      {"rmsprop", "rmsprop { epsilon: 1e-3 centered: true }", Rmsprop(0, true), {"v", "mean"}},
      {"rmsprop",
       "rmsprop { epsilon: 1e-3 momentum: 0.5 centered: true }",
       Rmsprop(0.5, true),
       {"v", "mean", "buffer"}},
      {"lion", "lion {}", Lion(), {"m"}, {DType::kF64}},
      {"lamb", "lamb { " + adam + " }", Lamb(0), {"m", "v"}},
      {"lamb", "lamb { " + adam + " } weight_decay: 0.25", Lamb(0.25), {"m", "v"}},
      {"lars", "lars { trust_coefficient: 0.05 }", Lars(0), {"velocity"}},
      {"lars", "lars { trust_coefficient: 0.05 } weight_decay: 0.25", Lars(0.25), {"velocity"}},
  };
  return rows;
}

double Gradient(int step, int64_t i) {
  return (0.5 - 0.1 * step + 0.03 * step * step) * (i % 3 == 0 ? 1.0 : -0.5) + 0.0078125 * static_cast<double>(i);
}

// An optimizer with its weights on a device of its own.
struct Bench {
  explicit Bench(const std::string& text, DType type, const std::vector<OptimizedTensor>& tensors = {})
      : optimizer(MakeOptimizer(FromText<v1::OptimizerSpec>(text), *device, kElements, type, tensors).value()) {
    optimizer->Begin(*device, w);
  }
  void Step(
      int t, const std::function<double(int64_t)>& factor = [](int64_t) { return 1.0; }) {
    for (int64_t i = 0; i < kElements; ++i) Arrays::Set(g, i, factor(i) * Gradient(t, i));
    optimizer->Step(*device, w, g, kRate, t);
  }

  std::unique_ptr<Device> device = MakeTestDevice();
  Arrays arrays{device.get()};
  Tensor w = arrays.Random({kElements}, DType::kF32, 1);
  Tensor g = arrays.Zeros({kElements}, DType::kF32);
  std::unique_ptr<Optimizer> optimizer;
};

class OptimizerConformance : public testing::TestWithParam<Row> {};

TEST_P(OptimizerConformance, FollowsItsFormula) {
  for (const DType type : GetParam().types) {
    const auto device = MakeTestDevice();
    Arrays arrays(device.get());
    const auto optimizer =
        MakeOptimizer(FromText<v1::OptimizerSpec>(GetParam().optimizer), *device, kElements, type).value();
    const Tensor w = arrays.Random({kElements}, type, 1), g = arrays.Zeros({kElements}, type);
    Plain plain;
    for (int64_t i = 0; i < kElements; ++i) plain.w.push_back(Arrays::Get(w, i));
    for (int t = 0; t < kSteps; ++t) {
      std::vector<double> gradient;
      for (int64_t i = 0; i < kElements; ++i) {
        Arrays::Set(g, i, Gradient(t, i));
        gradient.push_back(Arrays::Get(g, i));
      }
      optimizer->Step(*device, w, g, kRate, t);
      GetParam().reference(plain, gradient, t + 1);
      for (int64_t i = 0; i < kElements; ++i) {
        // At most about ten roundings a step, each carried on.
        EXPECT_LE(RelativeError(Arrays::Get(w, i), plain.w[static_cast<size_t>(i)]), Tolerance(type, 10 * (t + 1)))
            << "step " << t << " element " << i;
      }
    }
  }
}

// Stopping, saving, restoring and going on changes no bit.
TEST_P(OptimizerConformance, RestoredStateGoesOnWithTheSameBits) {
  const std::string text = GetParam().optimizer + " gradient_accumulation_steps: 2 use_ema: true";
  Bench first(text, DType::kF32), second(text, DType::kF32);
  for (int t = 0; t < 5; ++t) first.Step(t);
  std::vector<std::string> names;
  auto from = first.optimizer->State(), to = second.optimizer->State();
  for (size_t i = 0; i < from.size(); ++i) {
    names.push_back(from[i].first);
    second.device->CopyFromHost(to[i].second.data, from[i].second.data, from[i].second.bytes());
  }
  std::vector<std::string> expected = GetParam().state;
  expected.insert(expected.end(), {"accumulated_gradient", "average"});
  EXPECT_EQ(names, expected);
  second.device->CopyFromHost(second.w.data, first.w.data, first.w.bytes());
  for (int t = 5; t < 10; ++t) {
    first.Step(t);
    second.Step(t);
  }
  EXPECT_TRUE(SameBits(first.w, second.w));
  first.optimizer->SwapAverage(*first.device, first.w);
  second.optimizer->SwapAverage(*second.device, second.w);
  EXPECT_TRUE(SameBits(first.w, second.w));
}

// The padding between tensors has a zero gradient and must stay zero.
TEST_P(OptimizerConformance, ZeroStaysZero) {
  const auto device = MakeTestDevice();
  Arrays arrays(device.get());
  const auto optimizer =
      MakeOptimizer(FromText<v1::OptimizerSpec>(GetParam().optimizer), *device, 16, DType::kF32).value();
  const Tensor w = arrays.Zeros({16}, DType::kF32), g = arrays.Zeros({16}, DType::kF32);
  for (int t = 0; t < 3; ++t) optimizer->Step(*device, w, g, kRate, t);
  EXPECT_TRUE(SameBits(w, g));
}

// What is not trainable keeps its bits, and the others learn as if it were not there.
TEST_P(OptimizerConformance, FrozenTensorsAreNotTouched) {
  const std::vector<OptimizedTensor> tensors{{.name = "a", .offset = 0, .elements = 8},
                                             {.name = "b", .offset = 8, .elements = 16, .trainable = false, .l2 = 1},
                                             {.name = "c", .offset = 24, .elements = 13}};
  const auto frozen = [](int64_t i) { return i >= 8 && i < 24; };
  const std::string text = GetParam().optimizer + " global_clip_norm: 0.5 use_ema: true";
  Bench one(text, DType::kF32, tensors), other(text, DType::kF32, tensors);
  for (int64_t i = 0; i < kElements; ++i) {
    if (frozen(i)) Arrays::Set(other.w, i, 7);
  }
  for (int t = 0; t < 3; ++t) {
    one.Step(t);
    other.Step(t, [&](int64_t i) { return frozen(i) ? 100.0 : 1.0; });
  }
  for (int average = 0; average < 2; ++average) {
    const Tensor start = one.arrays.Random({kElements}, DType::kF32, 1);
    for (int64_t i = 0; i < kElements; ++i) {
      if (frozen(i)) {
        EXPECT_EQ(Arrays::Get(one.w, i), Arrays::Get(start, i)) << i;
        EXPECT_EQ(Arrays::Get(other.w, i), 7.0) << i;
      } else {
        EXPECT_NE(Arrays::Get(one.w, i), Arrays::Get(start, i)) << i;
        EXPECT_EQ(Arrays::Get(one.w, i), Arrays::Get(other.w, i)) << i;
      }
    }
    one.optimizer->SwapAverage(*one.device, one.w);
    other.optimizer->SwapAverage(*other.device, other.w);
  }
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
  const auto device = MakeTestDevice();
  const auto rate = [&](const std::string& text) {
    return MakeOptimizer(FromText<v1::OptimizerSpec>(text), *device, 1, DType::kF32).value()->base_learning_rate();
  };
  EXPECT_EQ(rate("sgd {}"), 0.01);
  EXPECT_EQ(rate("lars {}"), 0.01);
  for (const char* kind : {"adam", "adamw", "nadam", "adagrad", "rmsprop", "lion", "lamb"}) {
    EXPECT_EQ(rate(std::string(kind) + " {}"), 0.001) << kind;
    EXPECT_EQ(rate(std::string(kind) + " { learning_rate: 0.5 }"), 0.5) << kind;
  }
  EXPECT_EQ(MakeOptimizer({}, *device, 1, DType::kF32).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::conformance
