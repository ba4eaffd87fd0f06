// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/model/text.h"
#include "common/model/validate.h"

namespace lockstep {

namespace {

constexpr double kDefaultTestFraction = 0.2;

// ProbeDataset and PlanJob both check the spec; a caller of both should read each complaint once.
void AddOnce(std::string field, std::string description, Violations& violations) {
  for (const Violation& v : violations.list()) {
    if (v.field == field && v.description == description) return;
  }
  violations.Add(std::move(field), std::move(description));
}

void CheckIdx(const v1::IdxDataset& idx, Violations& violations) {
  if (idx.path().empty()) {
    AddOnce("dataset.idx.path", "is missing; name the folder of the four files", violations);
  }
  if (idx.has_scale() && (!std::isfinite(idx.scale()) || idx.scale() == 0)) {
    AddOnce("dataset.idx.scale", absl::StrCat("must be a finite number other than 0, not ", idx.scale()), violations);
  }
  if (!std::isfinite(idx.offset())) {
    AddOnce("dataset.idx.offset", absl::StrCat("must be a finite number, not ", idx.offset()), violations);
  }
}

// Each name once, none empty.
void CheckColumns(const google::protobuf::RepeatedPtrField<std::string>& names, const std::string& field,
                  std::set<std::string>& seen, Violations& violations) {
  for (int i = 0; i < names.size(); ++i) {
    const std::string item = absl::StrCat(field, "[", i, "]");
    if (names[i].empty()) {
      AddOnce(item, "is empty; name a column", violations);
    } else if (!seen.insert(names[i]).second) {
      AddOnce(item, absl::StrCat("the column ", Quoted(names[i]), " is named twice"), violations);
    }
  }
}

void CheckCsv(const v1::CsvDataset& csv, Violations& violations) {
  if (csv.path().empty()) AddOnce("dataset.csv.path", "is missing; name the file", violations);
  if (csv.target_columns().empty()) {
    AddOnce("dataset.csv.target_columns", "is empty; name at least one column to predict", violations);
  }
  std::set<std::string> seen;
  CheckColumns(csv.target_columns(), "dataset.csv.target_columns", seen, violations);
  CheckColumns(csv.feature_columns(), "dataset.csv.feature_columns", seen, violations);
  CheckColumns(csv.ignore_columns(), "dataset.csv.ignore_columns", seen, violations);
  if (!csv.ignore_columns().empty() && !csv.feature_columns().empty()) {
    AddOnce("dataset.csv.ignore_columns",
            "has no effect beside feature_columns, which names all that is used; leave one of them out", violations);
  }
  if (!v1::MissingValuePolicy_IsValid(csv.missing_values())) {
    AddOnce("dataset.csv.missing_values", absl::StrCat("must be refuse, drop_rows or mean, not ", csv.missing_values()),
            violations);
  }
  const double fraction = csv.has_test_fraction() ? csv.test_fraction() : kDefaultTestFraction;
  if (!(fraction > 0 && fraction < 1)) {
    AddOnce("dataset.csv.test_fraction", absl::StrCat("must lie in (0, 1), not ", fraction), violations);
  }
}

}  // namespace

void CheckDataset(const v1::DatasetSpec& spec, Violations& violations) {
  switch (spec.source_case()) {
    case v1::DatasetSpec::kIdx:
      return CheckIdx(spec.idx(), violations);
    case v1::DatasetSpec::kCsv:
      return CheckCsv(spec.csv(), violations);
    case v1::DatasetSpec::SOURCE_NOT_SET:
      AddOnce("dataset", "has no source; give idx or csv", violations);
  }
}

}  // namespace lockstep
