// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/formats/idx_cache.h"
#include "common/formats/safe_path.h"
#include "common/model/idx_dataset.h"
#include "common/status_macros.h"
#include "worker/data/tables.h"

namespace lockstep {

namespace {

class IdxTables final : public Dataset {
 public:
  const DataTable& train() const override { return parts_[0].table; }
  const DataTable& test() const override { return parts_[1].table; }
  const Shape& sample_shape() const override { return sample_; }

  absl::Status Load(const v1::IdxDataset& spec, const TableOptions& options) {
    const IdxFiles files = IdxFileNames(spec);
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(parts_[0], files.train_images, files.train_labels, options));
    sample_ = Shape(parts_[0].images.shape.dims().subspan(1));
    if (options.without_test) {
      const Tensor& features = parts_[0].table.features;
      parts_[1].table.features = {nullptr, Shape{0, features.shape[1]}, features.type};
      parts_[1].table.targets = {nullptr, Shape{0}, DType::kI32};
    } else {
      LOCKSTEP_RETURN_IF_ERROR(LoadPart(parts_[1], files.test_images, files.test_labels, options));
    }
    if (!options.without_test && !(sample_ == Shape(parts_[1].images.shape.dims().subspan(1)))) {
      return absl::InvalidArgumentError("training and test images have different sizes");
    }
    const float scale = static_cast<float>(spec.has_scale() ? spec.scale() : 1.0 / 255.0);
    for (Part& part : parts_) {
      part.table.scale = scale;
      part.table.offset = static_cast<float>(spec.offset());
    }
    return absl::OkStatus();
  }

 private:
  struct Part {
    SharedIdx images;
    std::vector<int32_t> labels;
    DataTable table;
  };

  static absl::Status LoadPart(Part& part, const std::string& images, const std::string& labels,
                               const TableOptions& options) {
    LOCKSTEP_ASSIGN_OR_RETURN(const File image_file, OpenUnderRoots(images, options.roots, IdxEndings()));
    LOCKSTEP_ASSIGN_OR_RETURN(const File label_file, OpenUnderRoots(labels, options.roots, IdxEndings()));
    const IdxCache cache = IdxCacheFromEnvironment();
    LOCKSTEP_ASSIGN_OR_RETURN(part.images, ReadIdxCached(image_file.fd(), image_file.path(), cache));
    LOCKSTEP_ASSIGN_OR_RETURN(const IdxData raw, ReadIdx(label_file.fd(), label_file.path()));
    LOCKSTEP_RETURN_IF_ERROR(CheckIdxPair(part.images.shape, image_file.path(), raw.shape, label_file.path()));
    part.labels.reserve(raw.values.size());
    for (size_t i = 0; i < raw.values.size(); ++i) {
      if (raw.values[i] >= options.classes) {
        return absl::InvalidArgumentError(absl::StrCat(label_file.path(), ": label ", int{raw.values[i]}, " of sample ",
                                                       i, " is out of range: the model has ", options.classes,
                                                       " classes"));
      }
      part.labels.push_back(raw.values[i]);
    }
    const int64_t samples = part.images.shape[0];
    const int64_t width = samples == 0 ? 0 : part.images.shape.elements() / samples;
    // A tensor says nothing of what may be written; samples are only read.
    part.table.features = {const_cast<uint8_t*>(part.images.values.data()), Shape{samples, width}, DType::kU8};
    part.table.targets = {part.labels.data(), Shape{samples}, DType::kI32};
    part.table.samples = samples;
    return absl::OkStatus();
  }

  std::array<Part, 2> parts_;
  Shape sample_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenIdxTables(const v1::IdxDataset& spec, const TableOptions& options) {
  auto tables = std::make_unique<IdxTables>();
  LOCKSTEP_RETURN_IF_ERROR(tables->Load(spec, options));
  return tables;
}

}  // namespace lockstep
