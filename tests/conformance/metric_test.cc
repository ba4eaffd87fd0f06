// SPDX-License-Identifier: Apache-2.0
// Every metric: its sums do not depend on how the samples are cut, nor its counts on the precision.
#include "worker/nn/metrics/metric.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

struct Row {
  std::string metric;
  // One that the metric fits; see Targets.
  std::string loss;
  int64_t width = 5;
  bool labels = true;
  // Of outputs that could not be better.
  double best = 1;
};

const std::vector<Row>& Rows() {
  static const std::string sparse = "sparse_categorical_crossentropy { from_logits: true }",
                           binary = "binary_crossentropy { from_logits: true }";
  static const std::vector<Row> rows{
      {"accuracy {}", sparse},
      {"accuracy {}", "categorical_crossentropy { from_logits: true }", 5, false},
      {"accuracy {}", binary, 1},
      {"accuracy {}", "hinge {}", 1},
      {"top_k_accuracy { k: 2 }", sparse},
      {"binary_accuracy { threshold: 0.4 }", binary, 1},
      {"binary_accuracy {}", binary, 3, false},
      {"precision {}", sparse},
      {"precision { threshold: 0.7 }", binary, 3, false},
      {"recall {}", sparse},
      {"recall {}", binary, 1},
      {"f1_score {}", sparse},
      {"f1_score {}", binary, 1},
      {"auc {}", sparse},
      {"auc { num_thresholds: 20 }", binary, 1},
      {"auc {}", binary, 4, false},
      {"confusion_matrix {}", sparse},
      {"confusion_matrix {}", binary, 1},
      {"mean_squared_error {}", "mean_squared_error {}", 3, false, 0},
      {"mean_absolute_error {}", "huber {}", 3, false, 0},
      {"r_squared {}", "mean_absolute_error {}", 3, false},
      {"perplexity {}", sparse},
      {"gradient_norm {}", sparse, 5, true, 0},
  };
  return rows;
}

constexpr int64_t kRows = 48;

// The outputs and targets of a row, and a metric's sums over some of them.
struct Subject {
  Subject(const Row& r, DType type) : row(r), device(MakeTestDevice()), arrays(device.get()) {
    v1::JobSpec spec = FromText<v1::JobSpec>("metrics { " + row.metric + " } loss { " + row.loss + " }");
    metric_spec = spec.metrics(0);
    const OutputKind kind = TaskOf(spec.loss()) == Task::kNumbers || spec.loss().has_hinge() ? OutputKind::kValues
                            : TaskOf(spec.loss()) == Task::kBinary                           ? OutputKind::kSigmoid
                                                                                             : OutputKind::kSoftmax;
    metric = MakeMetric(metric_spec, {.task = TaskOf(spec.loss()), .outputs = row.width, .kind = kind, .threshold = 0});
    outputs = arrays.Random({kRows, row.width}, type, 1);
    targets =
        row.labels ? arrays.Labels(kRows, std::max<int64_t>(row.width, 2)) : arrays.Random(outputs.shape, type, 2);
    for (int64_t i = 0; !row.labels && TaskOf(spec.loss()) == Task::kBinary && i < targets.elements(); ++i) {
      Arrays::Set(targets, i, Arrays::Get(targets, i) > 0 ? 1 : 0);
    }
  }
  std::vector<double> Sums(int64_t first, int64_t rows) {
    const Tensor sums = arrays.Zeros({metric->width()}, DType::kF64);
    metric->Count(*device, RowsOf(outputs, first, rows), RowsOf(targets, first, rows), sums);
    return {sums.as<double>(), sums.as<double>() + metric->width()};
  }
  double Value(const std::vector<double>& sums) const {
    MetricResult result;
    metric->Evaluate(sums.data(), kRows, result);
    return result.value;
  }
  // Outputs that say what the targets are, far from every threshold.
  void BecomeRight() {
    for (int64_t i = 0; i < outputs.elements(); ++i) {
      const int32_t label = row.labels ? targets.as<int32_t>()[i / row.width] : 0;
      if (row.labels) {
        Arrays::Set(outputs, i, (row.width == 1 ? label == 1 : label == i % row.width) ? 50 : -50);
      } else {
        const double t = Arrays::Get(targets, i);
        Arrays::Set(outputs, i, row.loss.starts_with("binary") ? (t > 0.5 ? 50 : -50) : t);
      }
    }
  }

  Row row;
  std::unique_ptr<Device> device;
  Arrays arrays;
  v1::MetricSpec metric_spec;
  std::unique_ptr<Metric> metric;
  Tensor outputs, targets;
};

class MetricConformance : public testing::TestWithParam<Row> {};

TEST_P(MetricConformance, PartsAddUpToTheWhole) {
  Subject s(GetParam(), DType::kF32);
  const std::vector<double> whole = s.Sums(0, kRows);
  for (const int64_t part : {1, 8, 16}) {
    std::vector<double> total(whole.size(), 0.0);
    for (int64_t first = 0; first < kRows; first += part) {
      const std::vector<double> sums = s.Sums(first, part);
      for (size_t i = 0; i < sums.size(); ++i) total[i] += sums[i];
    }
    for (size_t i = 0; i < total.size(); ++i) {
      if (s.metric->counts()) {
        EXPECT_EQ(total[i], whole[i]) << i;
      } else {
        EXPECT_LE(RelativeError(total[i], whole[i]), Tolerance(DType::kF64, kRows * s.row.width)) << i;
      }
    }
  }
}

TEST_P(MetricConformance, CountsAreWholeNumbersInEitherPrecision) {
  Subject f(GetParam(), DType::kF32), d(GetParam(), DType::kF64);
  const std::vector<double> a = f.Sums(0, kRows), b = d.Sums(0, kRows);
  for (size_t i = 0; i < a.size(); ++i) {
    if (f.metric->counts()) {
      EXPECT_EQ(a[i], std::floor(a[i])) << i;
      EXPECT_EQ(a[i], b[i]) << i;
    } else {
      EXPECT_LE(RelativeError(a[i], b[i]), Tolerance(DType::kF32, kRows * f.row.width)) << i;
    }
  }
}

TEST_P(MetricConformance, RightOutputsHaveTheBestValue) {
  Subject s(GetParam(), DType::kF32);
  EXPECT_TRUE(s.metric->of_gradient() || s.Value(s.Sums(0, kRows)) != s.row.best);
  s.BecomeRight();
  EXPECT_DOUBLE_EQ(s.Value(s.Sums(0, kRows)), s.row.best);
}

TEST_P(MetricConformance, NoSamplesAndNoNumbersAreNoHarm) {
  Subject s(GetParam(), DType::kF32);
  s.Value(std::vector<double>(static_cast<size_t>(s.metric->width()), 0.0));
  s.device->Fill(s.outputs, std::nan(""));
  s.Value(s.Sums(0, kRows));
}

TEST_P(MetricConformance, ALabelThatIsNoClassCountsNowhere) {
  Subject s(GetParam(), DType::kF32);
  // Perplexity is a loss, and NaN.
  if (!s.row.labels || !s.metric->counts()) return;
  const std::vector<double> without = s.Sums(1, kRows - 1);
  for (const int32_t label : {-1, static_cast<int32_t>(std::max<int64_t>(s.row.width, 2)), INT32_MIN, INT32_MAX}) {
    s.targets.as<int32_t>()[0] = label;
    EXPECT_EQ(s.Sums(0, kRows), without) << label;
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, MetricConformance, testing::ValuesIn(Rows()), [](const auto& p) {
  return p.param.metric.substr(0, p.param.metric.find(' ')) + "_" + std::to_string(p.index);
});

TEST(MetricConformance, EveryMetricHasARow) {
  std::set<std::string> rows, kinds;
  std::map<std::string, int> registered;
  for (const Row& row : Rows()) rows.insert(row.metric.substr(0, row.metric.find(' ')));
#define LOCKSTEP_METRIC(kind, Name) ++registered[#kind];
#include "worker/nn/metrics/registry.def"
#undef LOCKSTEP_METRIC
  const auto* oneof = v1::MetricSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) kinds.insert(oneof->field(i)->name());
  EXPECT_EQ(rows, kinds);
  EXPECT_EQ(registered.size(), kinds.size());
  for (const std::string& kind : kinds) EXPECT_EQ(registered[kind], 1) << kind;
}

TEST(TopKTest, TiesAreWonByTheLowestIndex) {
  Subject s(Rows()[0], DType::kF32);
  s.device->Fill(s.outputs, 0.5);
  s.device->Fill(s.targets, 0);
  EXPECT_EQ(s.Sums(0, kRows)[0], kRows);
  s.device->Fill(s.targets, 1);
  EXPECT_EQ(s.Sums(0, kRows)[0], 0);
}

TEST(ScoreHistogramTest, AThresholdItselfIsNotAbove) {
  const auto device = MakeTestDevice();
  Arrays arrays(device.get());
  const Tensor outputs = arrays.Zeros({6, 1}, DType::kF32), targets = arrays.Zeros({6}, DType::kI32);
  const double values[] = {0, 0.25, 0.250001, 0.5, 1, -3};
  for (int i = 0; i < 6; ++i) Arrays::Set(outputs, i, values[i]);
  targets.as<int32_t>()[4] = 1;
  const Tensor sums = arrays.Zeros({2, 4}, DType::kF64);
  device->ScoreHistogram(outputs, OutputKind::kValues, targets, sums);
  EXPECT_EQ(std::vector<double>(sums.as<double>(), sums.as<double>() + 8),
            (std::vector<double>{3, 2, 0, 0, 0, 0, 0, 1}));
}

}  // namespace
}  // namespace lockstep::conformance
