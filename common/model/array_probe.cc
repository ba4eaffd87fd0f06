// SPDX-License-Identifier: Apache-2.0
// CIFAR's and NumPy's files: their headers, and the labels for the largest.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/formats/array_reader.h"
#include "common/formats/safe_path.h"
#include "common/model/cifar_dataset.h"
#include "common/model/numpy_dataset.h"
#include "common/model/probes.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

// Of all files together; nullopt where something was wrong.
std::optional<int64_t> ProbeCifarPart(const std::vector<std::string>& files, const CifarLayout& layout,
                                      const std::string& field, const std::vector<std::string>& roots,
                                      Violations& violations) {
  int64_t samples = 0;
  bool good = true;
  for (size_t i = 0; i < files.size(); ++i) {
    const absl::StatusOr<File> file = OpenUnderRoots(files[i], roots);
    const absl::StatusOr<int64_t> records =
        file.ok() ? CountCifarRecords(file->fd(), file->path(), layout) : file.status();
    absl::Status status = records.status();
    std::vector<int32_t> labels;
    if (status.ok() && *records <= kMaxProbedLabels) {
      status = ReadCifarLabels(file->fd(), file->path(), layout, &labels);
    }
    if (status.ok()) {
      samples += *records;
      continue;
    }
    good = false;
    violations.Add(absl::StrCat(field, "[", i, "]"), std::string(status.message()));
  }
  return good ? std::optional(samples) : std::nullopt;
}

absl::StatusOr<int64_t> ClassesOf(const NumpyColumn& targets, const std::vector<std::string>& roots) {
  int64_t classes = 0;
  std::vector<int32_t> labels;
  for (const NumpyArray& array : targets.arrays) {
    LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(array.path, roots));
    LOCKSTEP_ASSIGN_OR_RETURN(const auto reader, ArrayReader::Open(file.fd(), file.path(), array.member));
    const int64_t count = reader->header().shape.elements();
    if (count > kMaxProbedLabels) continue;
    labels.resize(static_cast<size_t>(count));
    LOCKSTEP_RETURN_IF_ERROR(reader->ReadInt32s(labels.data(), count));
    LOCKSTEP_RETURN_IF_ERROR(reader->Finish());
    const auto negative = std::ranges::find_if(labels, [](int32_t label) { return label < 0; });
    if (negative != labels.end()) {
      return absl::InvalidArgumentError(absl::StrCat(array.name, ": label ", *negative, " of row ",
                                                     negative - labels.begin(),
                                                     " is no class index; save numbers to predict as float32"));
    }
    if (!labels.empty()) classes = std::max<int64_t>(classes, 1 + int64_t{*std::ranges::max_element(labels)});
  }
  return classes;
}

struct NumpyPart {
  NumpyColumn features, targets;
  int64_t classes = 0;
};

std::optional<NumpyPart> ProbeNumpyPart(const NumpyPatterns& features, const NumpyPatterns& targets,
                                        const std::string& field, const std::vector<std::string>& roots,
                                        Violations& violations) {
  const auto open = [&](const NumpyPatterns& patterns, const char* side, auto check) -> std::optional<NumpyColumn> {
    absl::StatusOr<NumpyColumn> column = OpenNumpyColumn(patterns, roots);
    absl::Status status = column.status();
    if (status.ok()) status = check(*column);
    if (status.ok()) return *std::move(column);
    violations.Add(field + side, std::string(status.message()));
    return std::nullopt;
  };
  auto x = open(features, "_features", [](const NumpyColumn& column) { return CheckNumpyFeatures(column); });
  auto y = open(targets, "_targets",
                [&](const NumpyColumn& column) { return x ? CheckNumpyTargets(column, *x) : absl::OkStatus(); });
  if (!x || !y) return std::nullopt;
  NumpyPart part{*std::move(x), *std::move(y)};
  if (!AreClassIndices(part.targets)) return part;
  const absl::StatusOr<int64_t> classes = ClassesOf(part.targets, roots);
  if (!classes.ok()) {
    violations.Add(field + "_targets", std::string(classes.status().message()));
    return std::nullopt;
  }
  part.classes = *classes;
  return part;
}

// How the test part differs from the training part; empty: it does not.
std::string Difference(const NumpyPart& train, const NumpyPart& test) {
  if (!(train.features.row == test.features.row)) {
    return absl::StrCat("test samples are ", test.features.row.ToString(), ", training samples ",
                        train.features.row.ToString());
  }
  if (train.features.dtype != test.features.dtype) {
    return absl::StrCat("test samples are ", NameOf(test.features.dtype), ", training samples ",
                        NameOf(train.features.dtype));
  }
  if (AreClassIndices(train.targets) != AreClassIndices(test.targets) ||
      train.targets.row.elements() != test.targets.row.elements()) {
    return "test targets are of another kind than training targets";
  }
  return "";
}

}  // namespace

DatasetInfo ProbeCifar(const v1::CifarDataset& spec, const std::vector<std::string>& roots, bool held_out,
                       Violations& violations) {
  DatasetInfo info;
  if (spec.path().empty()) {
    violations.Add("dataset.cifar.path", "is missing; name the folder of the files");
    return info;
  }
  if (!v1::CifarLabels_IsValid(spec.labels())) {
    violations.Add("dataset.cifar.labels", "must be CIFAR10, CIFAR100_FINE or CIFAR100_COARSE");
    return info;
  }
  const CifarFiles files = CifarFileNames(spec);
  const CifarLayout layout = CifarLayoutOf(spec);
  const auto train = ProbeCifarPart(files.train, layout, "dataset.cifar.train_files", roots, violations);
  std::optional<int64_t> test = 0;
  if (!held_out) test = ProbeCifarPart(files.test, layout, "dataset.cifar.test_files", roots, violations);
  if (!train || !test) return info;
  info.sample = Shape{kCifarChannels, kCifarSide, kCifarSide};
  info.train_samples = *train;
  info.test_samples = *test;
  info.classes = layout.classes;
  return info;
}

DatasetInfo ProbeNumpy(const v1::NumpyDataset& spec, const std::vector<std::string>& roots, bool held_out,
                       Violations& violations) {
  const std::string field = "dataset.numpy.";
  DatasetInfo info;
  const auto train = ProbeNumpyPart(spec.train_features(), spec.train_targets(), field + "train", roots, violations);
  const bool wants_test = !held_out && !(spec.test_features().empty() && spec.test_targets().empty());
  std::optional<NumpyPart> test;
  if (wants_test) test = ProbeNumpyPart(spec.test_features(), spec.test_targets(), field + "test", roots, violations);
  if (!train || (wants_test && !test)) return info;
  info.sample = train->features.row;
  info.train_samples = train->features.rows;
  info.classification = AreClassIndices(train->targets);
  info.target_width = train->targets.row.elements();
  info.classes = train->classes;
  if (!test) return info;
  info.test_samples = test->features.rows;
  info.classes = std::max(info.classes, test->classes);
  if (const std::string what = Difference(*train, *test); !what.empty()) {
    violations.Add(field + "test_features", what);
  }
  return info;
}

}  // namespace lockstep
