// SPDX-License-Identifier: Apache-2.0
// Every loss against finite differences, double precision and a split batch.
#include "worker/nn/loss.h"

#include <algorithm>
#include <cmath>
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

// What the outputs or the targets of a row are.
enum class Values {
  // Any numbers.
  kNumbers,
  // Between 0.08 and 0.92.
  kProbabilities,
  // As kProbabilities, and each row's sum is 1.
  kDistributions,
  // -1 or 1.
  kSigns,
  // Class indices.
  kLabels,
};

struct Row {
  std::string kind;
  std::string loss;
  Values outputs = Values::kNumbers;
  Values targets = Values::kNumbers;
  int64_t width = 5;
  // True near a place without a derivative.
  bool (*kink)(double p, double t) = nullptr;
};

constexpr double kHuberDelta = 0.7;

bool NearEqual(double p, double t) { return std::abs(p - t) < 2 * kDifferenceStep; }
bool NearDelta(double p, double t) { return std::abs(std::abs(p - t) - kHuberDelta) < 2 * kDifferenceStep; }
bool NearMargin(double p, double t) { return std::abs(1 - t * p) < 2 * kDifferenceStep; }

const std::vector<Row>& Rows() {
  using enum Values;
  static const std::vector<Row> rows{
      {"sparse_categorical_crossentropy", "from_logits: true", kNumbers, kLabels},
      {"sparse_categorical_crossentropy", "", kProbabilities, kLabels},
      {"sparse_categorical_crossentropy", "from_logits: true label_smoothing: 0.1", kNumbers, kLabels},
      {"sparse_categorical_crossentropy", "from_logits: true class_weights: [1, 0.5, 2, 0, 3] label_smoothing: 0.2",
       kNumbers, kLabels},
      {"sparse_categorical_crossentropy", "class_weights: [1, 0.5, 2, 0, 3]", kProbabilities, kLabels},
      {"categorical_crossentropy", "from_logits: true", kNumbers, kDistributions},
      {"categorical_crossentropy", "from_logits: true label_smoothing: 0.1 class_weights: [1, 0.5, 2, 0, 3]", kNumbers,
       kDistributions},
      {"categorical_crossentropy", "label_smoothing: 0.1", kProbabilities, kDistributions},
      {"binary_crossentropy", "from_logits: true", kNumbers, kProbabilities},
      {"binary_crossentropy", "from_logits: true label_smoothing: 0.2", kNumbers, kLabels, 1},
      {"binary_crossentropy", "label_smoothing: 0.1", kProbabilities, kProbabilities},
      {"binary_crossentropy", "", kProbabilities, kLabels, 1},
      {"mean_squared_error", ""},
      {"mean_absolute_error", "", kNumbers, kNumbers, 5, &NearEqual},
      {"huber", "delta: 0.7", kNumbers, kNumbers, 5, &NearDelta},
      {"hinge", "", kNumbers, kSigns, 5, &NearMargin},
      {"hinge", "", kNumbers, kLabels, 1, &NearMargin},
      {"kl_divergence", "", kDistributions, kDistributions},
  };
  return rows;
}

constexpr int64_t kBatch = 8;
constexpr double kScale = 0.25;

// Rounded to float, so that both precisions see the same numbers.
void Become(const Tensor& t, Values values) {
  const int64_t width = t.elements() / t.shape[0];
  for (int64_t i = 0; i < t.elements(); ++i) {
    const double u = Arrays::Get(t, i);
    if (values == Values::kProbabilities || values == Values::kDistributions) {
      Arrays::Set(t, i, static_cast<float>(0.5 + 0.4 * u));
    }
    if (values == Values::kSigns) Arrays::Set(t, i, u < 0 ? -1 : 1);
  }
  if (values != Values::kDistributions) return;
  for (int64_t row = 0; row < t.shape[0]; ++row) {
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += Arrays::Get(t, row * width + j);
    for (int64_t j = 0; j < width; ++j) {
      Arrays::Set(t, row * width + j, static_cast<float>(Arrays::Get(t, row * width + j) / sum));
    }
  }
}

struct Subject {
  Subject(const Row& r, DType type) : row(r), device(MakeTestDevice()), arrays(device.get()) {
    spec = FromText<v1::LossSpec>(row.kind + " { " + row.loss + " }");
    loss = MakeLoss(spec);
    EXPECT_TRUE(loss->Prepare(*device).ok());
    output = arrays.Random({kBatch, row.width}, type, 1);
    Become(output, row.outputs);
    gradient = arrays.Zeros(output.shape, type);
    targets = row.targets == Values::kLabels ? arrays.Labels(kBatch, std::max<int64_t>(row.width, 2))
                                             : arrays.Random(output.shape, type, 2);
    if (row.targets != Values::kLabels) Become(targets, row.targets);
    stats = arrays.Zeros({1}, DType::kF64);
  }
  double Run(bool with_gradient = true) {
    device->Fill(stats, 0);
    loss->Compute(*device, output, targets, kScale, with_gradient ? gradient : Tensor{}, stats);
    return stats.as<double>()[0];
  }
  // As a number: for a class index, whether it is this output's.
  double Target(int64_t i) const {
    if (row.targets != Values::kLabels) return Arrays::Get(targets, i);
    const int32_t label = targets.as<int32_t>()[i / row.width];
    if (row.width > 1) return label == i % row.width ? 1 : 0;
    return row.kind == "hinge" ? 2.0 * label - 1 : label;
  }

  Row row;
  std::unique_ptr<Device> device;
  Arrays arrays;
  v1::LossSpec spec;
  std::unique_ptr<Loss> loss;
  Tensor output, gradient, targets, stats;
};

// The formulas of loss.proto, word by word; y and t: one sample's outputs and targets.
double CrossentropyOf(const std::vector<double>& y, const std::vector<double>& t, const auto& spec) {
  const double n = static_cast<double>(y.size()), s = spec.label_smoothing();
  double exponentials = 0, loss = 0;
  for (const double x : y) exponentials += std::exp(x);
  for (size_t j = 0; j < y.size(); ++j) {
    const double p = spec.from_logits() ? std::exp(y[j]) / exponentials : y[j];
    loss -= (t[j] * (1 - s) + s / n) * std::log(p);
  }
  const auto label = std::max_element(t.begin(), t.end()) - t.begin();
  return spec.class_weights().empty() ? loss : loss * spec.class_weights(static_cast<int>(label));
}

double ElementOf(double y, double t, const v1::LossSpec& spec) {
  if (spec.has_binary_crossentropy()) {
    const double s = spec.binary_crossentropy().label_smoothing(), q = t * (1 - s) + s / 2;
    const double p = spec.binary_crossentropy().from_logits() ? 1 / (1 + std::exp(-y)) : y;
    return -(q * std::log(p) + (1 - q) * std::log(1 - p));
  }
  const double d = std::abs(y - t), delta = spec.huber().delta();
  if (spec.has_mean_squared_error()) return d * d;
  if (spec.has_mean_absolute_error()) return d;
  if (spec.has_huber()) return d <= delta ? d * d / 2 : delta * (d - delta / 2);
  if (spec.has_hinge()) return std::max(1 - t * y, 0.0);
  return t * std::log(t / y);
}

double Reference(const Subject& s) {
  double total = 0;
  for (int64_t row = 0; row < kBatch; ++row) {
    std::vector<double> y, t;
    for (int64_t i = row * s.row.width; i < (row + 1) * s.row.width; ++i) {
      y.push_back(Arrays::Get(s.output, i));
      t.push_back(s.Target(i));
    }
    double sum = 0;
    for (size_t j = 0; j < y.size(); ++j) sum += ElementOf(y[j], t[j], s.spec);
    if (s.spec.has_sparse_categorical_crossentropy()) {
      total += CrossentropyOf(y, t, s.spec.sparse_categorical_crossentropy());
    } else if (s.spec.has_categorical_crossentropy()) {
      total += CrossentropyOf(y, t, s.spec.categorical_crossentropy());
    } else {
      total += s.spec.has_kl_divergence() ? sum : sum / static_cast<double>(y.size());
    }
  }
  return total;
}

class LossConformance : public testing::TestWithParam<Row> {};

TEST_P(LossConformance, AgreesWithTheFormula) {
  Subject s(GetParam(), DType::kF64);
  EXPECT_LE(RelativeError(s.Run(), Reference(s)), Tolerance(DType::kF64, kBatch * s.row.width));
}

TEST_P(LossConformance, GradientAgreesWithFiniteDifferences) {
  Subject s(GetParam(), DType::kF64);
  s.Run();
  int64_t kinks = 0;
  for (int64_t i = 0; i < s.output.elements(); ++i) {
    const double at = Arrays::Get(s.output, i);
    if (s.row.kink != nullptr && s.row.kink(at, s.Target(i))) {
      ++kinks;
      continue;
    }
    Arrays::Set(s.output, i, at + kDifferenceStep);
    const double above = s.Run(false);
    Arrays::Set(s.output, i, at - kDifferenceStep);
    const double below = s.Run(false);
    Arrays::Set(s.output, i, at);
    const double difference = kScale * (above - below) / (2 * kDifferenceStep);
    // Third derivatives of a logarithm at probabilities above 0.05 stay below 2 / 0.05^3.
    const double curvature = s.row.outputs == Values::kNumbers ? 1.0 : 2.0 / (0.05 * 0.05 * 0.05);
    EXPECT_LE(RelativeError(difference, Arrays::Get(s.gradient, i)),
              curvature * DifferenceTolerance(s.output.elements()))
        << i;
  }
  EXPECT_LE(kinks, 1);
}

TEST_P(LossConformance, FloatAgreesWithDouble) {
  Subject f(GetParam(), DType::kF32), d(GetParam(), DType::kF64);
  const double a = f.Run(), b = d.Run();
  EXPECT_LE(RelativeError(a, b), Tolerance(DType::kF32, f.row.width));
  for (int64_t i = 0; i < f.gradient.elements(); ++i) {
    EXPECT_LE(RelativeError(Arrays::Get(f.gradient, i), Arrays::Get(d.gradient, i)),
              Tolerance(DType::kF32, f.row.width));
  }
}

TEST_P(LossConformance, ASplitBatchHasTheSameBits) {
  Subject whole(GetParam(), DType::kF32), part(GetParam(), DType::kF32);
  whole.Run();
  double total = 0;
  for (int64_t first = 0; first < kBatch; first += 2) {
    part.device->Fill(part.stats, 0);
    part.loss->Compute(*part.device, RowsOf(part.output, first, 2), RowsOf(part.targets, first, 2), kScale,
                       RowsOf(part.gradient, first, 2), part.stats);
    total += part.stats.as<double>()[0];
  }
  EXPECT_TRUE(SameBits(whole.gradient, part.gradient));
  EXPECT_LE(RelativeError(total, whole.stats.as<double>()[0]), Tolerance(DType::kF64, kBatch));
}

TEST_P(LossConformance, AddsToTheStatistics) {
  Subject s(GetParam(), DType::kF64);
  const double once = s.Run();
  s.loss->Compute(*s.device, s.output, s.targets, kScale, {}, s.stats);
  EXPECT_DOUBLE_EQ(s.stats.as<double>()[0], 2 * once);
}

INSTANTIATE_TEST_SUITE_P(Registry, LossConformance, testing::ValuesIn(Rows()),
                         [](const auto& p) { return p.param.kind + "_" + std::to_string(p.index); });

TEST(LossConformance, EveryLossHasARow) {
  std::set<std::string> rows, kinds;
  std::map<std::string, int> registered;
  for (const Row& row : Rows()) rows.insert(row.kind);
#define LOCKSTEP_LOSS(kind, Name) ++registered[#kind];
#include "worker/nn/losses/registry.def"
#undef LOCKSTEP_LOSS
  const auto* oneof = v1::LossSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) kinds.insert(oneof->field(i)->name());
  EXPECT_EQ(rows, kinds);
  EXPECT_EQ(registered.size(), kinds.size());
  for (const std::string& kind : kinds) EXPECT_EQ(registered[kind], 1) << kind;
}

TEST(LossConformance, ALabelThatIsNoClassMakesTheLossNaN) {
  for (const Row& row : Rows()) {
    Subject s(row, DType::kF32);
    if (row.targets != Values::kLabels) continue;
    for (const int32_t label : {-1, static_cast<int32_t>(std::max<int64_t>(row.width, 2)), 1 << 30}) {
      s.targets.as<int32_t>()[3] = label;
      EXPECT_TRUE(std::isnan(s.Run())) << row.loss << " " << label;
    }
  }
}

TEST_P(LossConformance, ExtremeOutputsStayFinite) {
  Subject s(GetParam(), DType::kF32);
  for (int64_t i = 0; i < s.output.elements(); ++i) {
    // Probabilities of exactly 0 and 1.
    Arrays::Set(s.output, i, s.row.outputs == Values::kNumbers ? 1e4 * Arrays::Get(s.output, i) : i % 2);
  }
  EXPECT_TRUE(std::isfinite(s.Run()));
  for (int64_t i = 0; i < s.gradient.elements(); ++i) EXPECT_TRUE(std::isfinite(Arrays::Get(s.gradient, i)));
}

TEST_P(LossConformance, AnOutputThatIsNoNumberShows) {
  Subject s(GetParam(), DType::kF32);
  for (int64_t i = 0; i < s.row.width; ++i) Arrays::Set(s.output, i, std::nan(""));
  EXPECT_TRUE(std::isnan(s.Run()));
}

}  // namespace
}  // namespace lockstep::conformance
