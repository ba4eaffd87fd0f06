// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "common/formats/safe_path.h"
#include "common/model/csv_dataset.h"
#include "common/model/idx_dataset.h"
#include "common/model/job_plan.h"
#include "common/model/validate.h"

namespace lockstep {

namespace {

// Labels are read whole to find the largest; more than this and the loader finds it at the start.
constexpr int64_t kMaxProbedLabels = 16 << 20;

struct ProbedFile {
  File file;
  Shape shape;
};

std::optional<ProbedFile> Probe(const std::string& path, const std::string& field,
                                const std::vector<std::string>& roots, Violations& violations) {
  absl::StatusOr<File> file = OpenUnderRoots(path, roots, IdxEndings());
  if (!file.ok()) {
    violations.Add(field, std::string(file.status().message()));
    return std::nullopt;
  }
  const absl::StatusOr<Shape> shape = ReadIdxHeader(file->fd(), file->path());
  if (!shape.ok()) {
    violations.Add(field, std::string(shape.status().message()));
    return std::nullopt;
  }
  return ProbedFile{*std::move(file), *shape};
}

// One pair of images and labels; the images' shape, or nothing where something is wrong.
std::optional<Shape> ProbePair(const std::string& images, const std::string& labels, const std::string& part,
                               const std::vector<std::string>& roots, int64_t& classes, Violations& violations) {
  const std::string labels_field = absl::StrCat("dataset.idx.", part, "_labels");
  const auto image_file = Probe(images, absl::StrCat("dataset.idx.", part, "_images"), roots, violations);
  const auto label_file = Probe(labels, labels_field, roots, violations);
  if (!image_file || !label_file) return std::nullopt;
  const absl::Status fits =
      CheckIdxPair(image_file->shape, image_file->file.path(), label_file->shape, label_file->file.path());
  if (!fits.ok()) {
    violations.Add(labels_field, std::string(fits.message()));
    return std::nullopt;
  }
  if (label_file->shape[0] <= kMaxProbedLabels) {
    const absl::StatusOr<IdxData> data = ReadIdx(label_file->file.fd(), label_file->file.path());
    if (!data.ok()) {
      violations.Add(labels_field, std::string(data.status().message()));
      return std::nullopt;
    }
    classes = std::max<int64_t>(classes, 1 + *std::ranges::max_element(data->values));
  }
  return image_file->shape;
}

DatasetInfo ProbeIdx(const v1::IdxDataset& spec, const std::vector<std::string>& roots, Violations& violations) {
  DatasetInfo info{.classification = true, .target_width = 1};
  const IdxFiles files = IdxFileNames(spec);
  int64_t classes = 0;
  const auto train = ProbePair(files.train_images, files.train_labels, "train", roots, classes, violations);
  const auto test = ProbePair(files.test_images, files.test_labels, "test", roots, classes, violations);
  if (!train || !test) return info;
  const Shape sample(train->dims().subspan(1));
  const Shape test_sample(test->dims().subspan(1));
  if (!(sample == test_sample)) {
    violations.Add("dataset.idx.test_images", absl::StrCat("test images have the shape ", test_sample.ToString(),
                                                           ", but training images ", sample.ToString()));
    return info;
  }
  info.sample = sample;
  info.train_samples = (*train)[0];
  info.test_samples = (*test)[0];
  info.classes = classes;
  return info;
}

DatasetInfo ProbeCsv(const v1::CsvDataset& spec, const std::vector<std::string>& roots, Violations& violations) {
  DatasetInfo info{.classification = false};
  const absl::StatusOr<File> file = OpenUnderRoots(spec.path(), roots);
  if (!file.ok()) {
    violations.Add("dataset.csv.path", std::string(file.status().message()));
    return info;
  }
  const size_t before = violations.count();
  const CsvCounts counts = CountCsvRows(file->fd(), file->path(), spec, violations);
  if (violations.count() != before) return info;
  info.sample = Shape{static_cast<int64_t>(counts.columns.features.size())};
  info.target_width = static_cast<int64_t>(counts.columns.targets.size());
  info.train_samples = counts.train_rows;
  info.test_samples = counts.test_rows;
  return info;
}

}  // namespace

DatasetInfo ProbeDataset(const v1::DatasetSpec& spec, const std::vector<std::string>& data_roots,
                         Violations& violations) {
  const size_t before = violations.count();
  CheckDataset(spec, violations);
  if (violations.count() != before) return {};
  return spec.has_idx() ? ProbeIdx(spec.idx(), data_roots, violations) : ProbeCsv(spec.csv(), data_roots, violations);
}

}  // namespace lockstep
