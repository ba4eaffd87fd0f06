// SPDX-License-Identifier: Apache-2.0
// Checks of where samples come from.
#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

namespace {

template <typename Names>
bool Contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class DatasetChecker {
 public:
  DatasetChecker(const v1::DatasetSpec& spec, bool at_hand, Violations& violations)
      : spec_(spec), at_hand_(at_hand), violations_(violations) {}

  void Run() {
    CheckValidationFraction();
    switch (spec_.source_case()) {
      case v1::DatasetSpec::kIdx:
        CheckScale("idx", spec_.idx());
        if (!at_hand_ && spec_.idx().path().empty()) Add("idx.path", "is missing; name the folder of the four files");
        return;
      case v1::DatasetSpec::kCsv:
        CheckCsv(spec_.csv());
        if (!at_hand_) CheckCsvAlone(spec_.csv());
        return;
      case v1::DatasetSpec::kCifar:
        CheckScale("cifar", spec_.cifar());
        if (!at_hand_) CheckCifarAlone(spec_.cifar());
        return;
      case v1::DatasetSpec::kNumpy:
        CheckScale("numpy", spec_.numpy());
        CheckNumpy(spec_.numpy());
        return;
      case v1::DatasetSpec::SOURCE_NOT_SET:
        if (!at_hand_) violations_.Add("dataset", "has no source; give idx, cifar, numpy or csv");
    }
  }

 private:
  void Add(const std::string& field, const std::string& description) {
    violations_.Add(absl::StrCat("dataset.", field), description);
  }

  void CheckValidationFraction() {
    const double fraction = spec_.validation_fraction();
    // Written so that NaN fails.
    if (!(fraction >= 0 && fraction < 1)) {
      Add("validation_fraction", absl::StrCat("is ", fraction, "; must be at least 0 and below 1"));
    } else if (fraction > 0 && spec_.has_csv()) {
      Add("validation_fraction", "is not for csv, of whose rows csv.test_fraction are held out; leave this one out");
    }
  }

  template <typename Source>
  void CheckScale(const std::string& name, const Source& source) {
    if (source.has_scale() && (!std::isfinite(source.scale()) || source.scale() == 0)) {
      Add(name + ".scale", absl::StrCat("is ", source.scale(), "; must be a finite number other than 0"));
    }
    if (!std::isfinite(source.offset())) {
      Add(name + ".offset", absl::StrCat("is ", source.offset(), "; must be a finite number"));
    }
  }

  void CheckCsv(const v1::CsvDataset& csv) {
    if (!csv.ignore_columns().empty() && !csv.feature_columns().empty()) {
      Add("csv.ignore_columns", "has no effect beside feature_columns; leave one of the two out");
    }
    if (!v1::MissingValuePolicy_IsValid(csv.missing_values())) {
      Add("csv.missing_values", "must be REFUSE, DROP_ROWS or MEAN");
    }
    std::set<std::string> seen;
    for (int i = 0; i < csv.categorical_columns_size(); ++i) {
      const std::string& column = csv.categorical_columns(i);
      const std::string field = absl::StrCat("csv.categorical_columns[", i, "]");
      if (!seen.insert(column).second) Add(field, absl::StrCat("\"", column, "\" is named twice"));
      if (Contains(csv.ignore_columns(), column)) Add(field, absl::StrCat("\"", column, "\" is in ignore_columns too"));
      if (Contains(csv.target_columns(), column)) {
        Add(field, absl::StrCat("\"", column,
                                "\" is in target_columns too; for a target of classes set "
                                "classify_target"));
      }
    }
    if (!csv.classify_target()) return;
    if (csv.target_columns_size() > 1) {
      Add("csv.classify_target", absl::StrCat("needs exactly one target column, not ", csv.target_columns_size()));
    }
    if (csv.standardize_targets()) {
      Add("csv.standardize_targets", "is for numbers, but classify_target is set; leave one of the two out");
    }
  }

  // What the probe would say.
  void CheckCsvAlone(const v1::CsvDataset& csv) {
    if (csv.path().empty()) Add("csv.path", "is missing; name the file");
    if (csv.target_columns().empty()) Add("csv.target_columns", "is empty; name at least one column to predict");
    if (csv.has_test_fraction() && !(csv.test_fraction() > 0 && csv.test_fraction() < 1)) {
      Add("csv.test_fraction", absl::StrCat("is ", csv.test_fraction(), "; must be between 0 and 1"));
    }
  }

  void CheckCifarAlone(const v1::CifarDataset& cifar) {
    if (cifar.path().empty()) Add("cifar.path", "is missing; name the folder of the files");
    if (!v1::CifarLabels_IsValid(cifar.labels())) {
      Add("cifar.labels", "must be CIFAR10, CIFAR100_FINE or CIFAR100_COARSE");
    }
  }

  void CheckNumpy(const v1::NumpyDataset& numpy) {
    if (!at_hand_ && numpy.train_features().empty()) {
      Add("numpy.train_features", "is missing; name at least one array");
    }
    if (!at_hand_ && numpy.train_targets().empty()) Add("numpy.train_targets", "is missing; name at least one array");
    if (spec_.validation_fraction() > 0 && !numpy.test_features().empty()) {
      Add("numpy.test_features", "has no effect beside validation_fraction; leave one of the two out");
    }
    if (!at_hand_ && numpy.test_features().empty() != numpy.test_targets().empty()) {
      Add(numpy.test_features().empty() ? "numpy.test_features" : "numpy.test_targets",
          "is missing; the test part needs both features and targets");
    }
  }

  const v1::DatasetSpec& spec_;
  const bool at_hand_;
  Violations& violations_;
};

}  // namespace

void CheckDataset(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations) {
  DatasetChecker(spec.dataset(), dataset != nullptr, violations).Run();
}

}  // namespace lockstep
