// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "common/formats/safe_path.h"
#include "common/model/idx_dataset.h"
#include "common/model/probes.h"

namespace lockstep {

namespace {

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

}  // namespace

DatasetInfo ProbeIdx(const v1::IdxDataset& spec, const std::vector<std::string>& roots, bool held_out,
                     Violations& violations) {
  if (spec.path().empty()) {
    violations.Add("dataset.idx.path", "is missing; name the folder of the four files");
    return {};
  }
  const IdxFiles files = IdxFileNames(spec);
  int64_t classes = 0;
  const auto train = ProbePair(files.train_images, files.train_labels, "train", roots, classes, violations);
  DatasetInfo info;
  if (!train && held_out) return info;
  const auto test =
      held_out ? std::nullopt : ProbePair(files.test_images, files.test_labels, "test", roots, classes, violations);
  if (!train || (!test && !held_out)) return info;
  info.sample = Shape(train->dims().subspan(1));
  info.classes = classes;
  info.train_samples = (*train)[0];
  if (!test) return info;
  info.test_samples = (*test)[0];
  if (!(info.sample == Shape(test->dims().subspan(1)))) {
    violations.Add("dataset.idx.test_images", absl::StrCat("training images are ", info.sample.ToString(),
                                                           ", test images ", test->ToString(), " in all"));
  }
  return info;
}

}  // namespace lockstep
