// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/csv_dataset.h"
#include "common/model/job_plan.h"
#include "common/model/probes.h"
#include "common/model/split.h"

namespace lockstep {

DatasetInfo ProbeCsv(const v1::CsvDataset& spec, const std::vector<std::string>& roots, uint64_t seed,
                     Violations& violations) {
  DatasetInfo info;
  info.classification = spec.classify_target();
  if (spec.path().empty()) {
    violations.Add("dataset.csv.path", "is missing; name the file");
    return info;
  }
  // The rows must be counted, and counting is nearly all of reading. Which values a text column has in the
  // training rows depends on the seed.
  const absl::StatusOr<CsvTable> table = LoadCsvTable(spec, roots, seed);
  if (!table.ok()) {
    // Where the file itself is not to be had, its name is what is wrong.
    const bool path = absl::IsNotFound(table.status()) || absl::IsPermissionDenied(table.status());
    violations.Add(path ? "dataset.csv.path" : "dataset.csv", std::string(table.status().message()));
    return info;
  }
  info.sample = Shape{table->features};
  info.train_samples = table->train.rows;
  info.test_samples = table->test.rows;
  info.target_width = table->targets;
  info.classes = static_cast<int64_t>(table->preprocessing.classes.size());
  return info;
}

DatasetInfo ProbeDataset(const v1::DatasetSpec& spec, const std::vector<std::string>& data_roots, uint64_t seed,
                         Violations& violations) {
  const double fraction = spec.validation_fraction();
  const bool held_out = fraction > 0;
  DatasetInfo info;
  switch (spec.source_case()) {
    case v1::DatasetSpec::kIdx:
      info = ProbeIdx(spec.idx(), data_roots, held_out, violations);
      break;
    case v1::DatasetSpec::kCsv:
      return ProbeCsv(spec.csv(), data_roots, seed, violations);
    case v1::DatasetSpec::kCifar:
      info = ProbeCifar(spec.cifar(), data_roots, held_out, violations);
      break;
    case v1::DatasetSpec::kNumpy:
      info = ProbeNumpy(spec.numpy(), data_roots, held_out, violations);
      break;
    case v1::DatasetSpec::SOURCE_NOT_SET:
      violations.Add("dataset", "has no source; give idx, cifar, numpy or csv");
      return info;
  }
  if (!(fraction > 0 && fraction < 1) || info.train_samples == 0) return info;
  info.test_samples = HeldOutCount(info.train_samples, fraction);
  info.train_samples -= info.test_samples;
  if (info.test_samples == 0 || info.train_samples == 0) {
    violations.Add("dataset.validation_fraction",
                   absl::StrCat("is ", fraction, ", which leaves ", info.train_samples, " samples to train on and ",
                                info.test_samples, " to hold out; there must be at least one of each"));
  }
  return info;
}

}  // namespace lockstep
