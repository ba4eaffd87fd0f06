// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

// What ProbeDataset does not say, and what it would say where it was not asked.
void CheckDataset(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations) {
  const v1::IdxDataset& idx = spec.dataset().idx();
  if (idx.has_scale() && (!std::isfinite(idx.scale()) || idx.scale() == 0)) {
    violations.Add("dataset.idx.scale", absl::StrCat("is ", idx.scale(), "; must be a finite number other than 0"));
  }
  if (!std::isfinite(idx.offset())) {
    violations.Add("dataset.idx.offset", absl::StrCat("is ", idx.offset(), "; must be a finite number"));
  }
  const v1::CsvDataset& csv = spec.dataset().csv();
  if (!csv.ignore_columns().empty() && !csv.feature_columns().empty()) {
    violations.Add("dataset.csv.ignore_columns", "has no effect beside feature_columns; leave one of the two out");
  }
  if (!v1::MissingValuePolicy_IsValid(csv.missing_values())) {
    violations.Add("dataset.csv.missing_values", "must be REFUSE, DROP_ROWS or MEAN");
  }
  if (dataset != nullptr) return;
  if (spec.dataset().source_case() == v1::DatasetSpec::SOURCE_NOT_SET) {
    violations.Add("dataset", "has no source; give idx or csv");
  } else if (spec.dataset().has_idx() ? idx.path().empty() : csv.path().empty()) {
    violations.Add(spec.dataset().has_idx() ? "dataset.idx.path" : "dataset.csv.path", "is missing");
  }
  if (spec.dataset().has_csv() && csv.target_columns().empty()) {
    violations.Add("dataset.csv.target_columns", "is empty; name at least one column to predict");
  }
  if (csv.has_test_fraction() && !(csv.test_fraction() > 0 && csv.test_fraction() < 1)) {
    violations.Add("dataset.csv.test_fraction", absl::StrCat("is ", csv.test_fraction(), "; must be between 0 and 1"));
  }
}

}  // namespace lockstep
