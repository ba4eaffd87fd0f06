// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "worker/nn/metrics/metric.h"

namespace lockstep {

#define LOCKSTEP_METRIC(kind, Name) \
  std::unique_ptr<Metric> Make##Name(const v1::MetricSpec& spec, const MetricContext& context);
#include "worker/nn/metrics/registry.def"
#undef LOCKSTEP_METRIC

std::unique_ptr<Metric> MakeMetric(const v1::MetricSpec& spec, const MetricContext& context) {
  const std::string_view name = MetricName(spec);
#define LOCKSTEP_METRIC(kind, Name) \
  if (name == #kind) return Make##Name(spec, context);
#include "worker/nn/metrics/registry.def"
#undef LOCKSTEP_METRIC
  // The spec was validated: a bug.
  std::abort();
}

}  // namespace lockstep
