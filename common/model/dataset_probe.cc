// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "common/formats/safe_path.h"
#include "common/model/csv_dataset.h"
#include "common/model/idx_dataset.h"
#include "common/model/job_plan.h"

namespace lockstep {

namespace {

// Labels are read whole, for the largest; of longer files the loader finds it when the job starts.
constexpr int64_t kMaxProbedLabels = 16 << 20;

struct Header {
  Shape shape;
  File file;
};

std::optional<Header> ReadHeader(const std::string& file_name, const std::string& field,
                                 const std::vector<std::string>& roots, Violations& violations) {
  absl::StatusOr<File> file = OpenUnderRoots(file_name, roots, IdxEndings());
  if (!file.ok()) {
    violations.Add(field, std::string(file.status().message()));
    return std::nullopt;
  }
  const absl::StatusOr<Shape> shape = ReadIdxHeader(file->fd(), file->path());
  if (!shape.ok()) {
    violations.Add(field, std::string(shape.status().message()));
    return std::nullopt;
  }
  return Header{*shape, *std::move(file)};
}

// Images and labels that belong together.
std::optional<Shape> ProbePair(const std::string& images, const std::string& labels, const std::string& part,
                               const std::vector<std::string>& roots, int64_t& classes, Violations& violations) {
  const std::string field = "dataset.idx.";
  const auto image_header = ReadHeader(images, field + part + "_images", roots, violations);
  const auto label_header = ReadHeader(labels, field + part + "_labels", roots, violations);
  if (!image_header || !label_header) return std::nullopt;
  const absl::Status pair =
      CheckIdxPair(image_header->shape, image_header->file.path(), label_header->shape, label_header->file.path());
  if (!pair.ok()) {
    violations.Add(field + part + "_images", std::string(pair.message()));
    return std::nullopt;
  }
  if (label_header->shape[0] > kMaxProbedLabels) return image_header->shape;
  const absl::StatusOr<IdxData> data = ReadIdx(label_header->file.fd(), label_header->file.path());
  if (!data.ok()) {
    violations.Add(field + part + "_labels", std::string(data.status().message()));
    return std::nullopt;
  }
  if (!data->values.empty()) classes = std::max<int64_t>(classes, 1 + *std::ranges::max_element(data->values));
  return image_header->shape;
}

DatasetInfo ProbeIdx(const v1::IdxDataset& spec, const std::vector<std::string>& roots, Violations& violations) {
  if (spec.path().empty()) {
    violations.Add("dataset.idx.path", "is missing; name the folder of the four files");
    return {};
  }
  const IdxFiles files = IdxFileNames(spec);
  int64_t classes = 0;
  const auto train = ProbePair(files.train_images, files.train_labels, "train", roots, classes, violations);
  const auto test = ProbePair(files.test_images, files.test_labels, "test", roots, classes, violations);
  DatasetInfo info;
  if (!train || !test) return info;
  info.sample = Shape(train->dims().subspan(1));
  info.classes = classes;
  info.train_samples = (*train)[0];
  info.test_samples = (*test)[0];
  if (!(info.sample == Shape(test->dims().subspan(1)))) {
    violations.Add("dataset.idx.test_images", absl::StrCat("training images are ", info.sample.ToString(),
                                                           ", test images ", test->ToString(), " in all"));
  }
  return info;
}

DatasetInfo ProbeCsv(const v1::CsvDataset& spec, const std::vector<std::string>& roots, Violations& violations) {
  DatasetInfo info;
  info.classification = false;
  const absl::StatusOr<File> file = OpenUnderRoots(spec.path(), roots);
  if (!file.ok()) {
    violations.Add("dataset.csv.path", std::string(file.status().message()));
    return info;
  }
  // The rows must be counted, and counting is nearly all of reading; the split's sizes do not depend on
  // the seed.
  const absl::StatusOr<CsvTable> table = LoadCsvTable(file->fd(), file->path(), spec, /*seed=*/0);
  if (!table.ok()) {
    violations.Add("dataset.csv", std::string(table.status().message()));
    return info;
  }
  info.sample = Shape{table->features};
  info.train_samples = table->train.rows;
  info.test_samples = table->test.rows;
  info.target_width = table->targets;
  return info;
}

}  // namespace

DatasetInfo ProbeDataset(const v1::DatasetSpec& spec, const std::vector<std::string>& data_roots,
                         Violations& violations) {
  switch (spec.source_case()) {
    case v1::DatasetSpec::kIdx:
      return ProbeIdx(spec.idx(), data_roots, violations);
    case v1::DatasetSpec::kCsv:
      return ProbeCsv(spec.csv(), data_roots, violations);
    default:
      break;
  }
  violations.Add("dataset", "has no source; give idx or csv");
  return {};
}

}  // namespace lockstep
