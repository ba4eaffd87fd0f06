// SPDX-License-Identifier: Apache-2.0
// CIFAR's and NumPy's sets whose samples stay in their files.
#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/formats/safe_path.h"
#include "common/model/cifar_dataset.h"
#include "common/model/numpy_dataset.h"
#include "common/status_macros.h"
#include "worker/data/file_rows.h"
#include "worker/data/tables.h"

namespace lockstep {

namespace {

// What is remembered of a set's files is bounded too: PlanInput counts so much for a part.
constexpr int64_t kMaxFilesBytes = 900 << 10;

class StreamedTables : public Dataset {
 public:
  const DataTable& train() const override { return parts_[0].table; }
  const DataTable& test() const override { return parts_[1].table; }
  const Shape& sample_shape() const override { return sample_; }

 protected:
  struct Part {
    std::vector<int32_t> labels;
    std::vector<float> targets;
    std::unique_ptr<FileRows> rows;
    DataTable table;
  };

  // `targets`: null data where they lie in the files.
  static absl::Status Open(Part& part, const std::vector<RecordFile>& files, const RecordLayout& layout,
                           const Tensor& targets, const TableOptions& options) {
    LOCKSTEP_ASSIGN_OR_RETURN(part.rows, FileRows::Create(files, options.roots, layout, targets));
    const int64_t held = part.rows->bytes() - std::max(kReadBytes, layout.bytes);
    if (held > kMaxFilesBytes) {
      return absl::InvalidArgumentError(absl::StrCat("dataset.memory_limit_bytes: ", files.size(), " files take ", held,
                                                     " bytes to remember, more than the ", kMaxFilesBytes,
                                                     " that are set aside for it; join some into larger ones"));
    }
    DataTable& table = part.table;
    table.source = part.rows.get();
    table.samples = part.rows->samples();
    table.features = {nullptr, Shape{table.samples, layout.features},
                      layout.type == DType::kU8 ? DType::kU8 : DType::kF32};
    table.scale = layout.scale;
    table.offset = layout.offset;
    table.targets = targets.data != nullptr ? targets : Tensor{nullptr, Shape{table.samples}, DType::kI32};
    return absl::OkStatus();
  }

  // Training and test part.
  std::array<Part, 2> parts_;
  Shape sample_;
};

class StreamedCifar final : public StreamedTables {
 public:
  absl::Status Load(const v1::CifarDataset& spec, const TableOptions& options) {
    sample_ = Shape{kCifarChannels, kCifarSide, kCifarSide};
    const CifarFiles files = CifarFileNames(spec);
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(spec, files.train, options, parts_[0]));
    return LoadPart(spec, options.without_test ? std::vector<std::string>{} : files.test, options, parts_[1]);
  }

 private:
  static absl::Status LoadPart(const v1::CifarDataset& spec, const std::vector<std::string>& paths,
                               const TableOptions& options, Part& part) {
    const CifarLayout cifar = CifarLayoutOf(spec);
    std::vector<RecordFile> files;
    for (const std::string& path : paths) {
      LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(path, options.roots));
      LOCKSTEP_ASSIGN_OR_RETURN(const int64_t records, CountCifarRecords(file.fd(), file.path(), cifar));
      files.push_back({path, 0, records});
    }
    const RecordLayout layout{.bytes = cifar.record_bytes(),
                              .first_feature = cifar.label_bytes,
                              .features = kCifarImageBytes,
                              .scale = static_cast<float>(spec.has_scale() ? spec.scale() : 1.0 / 255.0),
                              .offset = static_cast<float>(spec.offset()),
                              .label_at = cifar.label_at,
                              .classes = options.classes};
    return Open(part, files, layout, Tensor{}, options);
  }
};

absl::Status CheckNoArchive(const NumpyColumn& column) {
  for (const NumpyArray& array : column.arrays) {
    if (!array.in_archive) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(array.name,
                     ": an archive cannot be read row by row, which dataset.memory_limit_bytes asks for; "
                     "save its arrays as .npy files"));
  }
  return absl::OkStatus();
}

class StreamedNumpy final : public StreamedTables {
 public:
  absl::Status Load(const v1::NumpyDataset& spec, const TableOptions& options) {
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(spec, spec.train_features(), spec.train_targets(), options, parts_[0]));
    if (options.without_test || spec.test_features().empty()) {
      parts_[1].table = parts_[0].table;
      parts_[1].table.samples = 0;
      return absl::OkStatus();
    }
    const Shape sample = sample_;
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(spec, spec.test_features(), spec.test_targets(), options, parts_[1]));
    if (sample == sample_) return absl::OkStatus();
    return absl::InvalidArgumentError("training and test samples have different shapes");
  }

 private:
  absl::Status LoadPart(const v1::NumpyDataset& spec, const NumpyPatterns& features, const NumpyPatterns& targets,
                        const TableOptions& options, Part& part) {
    LOCKSTEP_ASSIGN_OR_RETURN(const NumpyColumns opened, OpenNumpyColumns(features, targets, options.roots));
    const NumpyColumn& x = opened.features;
    const NumpyColumn& y = opened.targets;
    sample_ = x.row;
    LOCKSTEP_RETURN_IF_ERROR(CheckNoArchive(x));
    LOCKSTEP_RETURN_IF_ERROR(CheckNoArchive(y));
    std::vector<RecordFile> files;
    for (const NumpyArray& array : x.arrays) {
      files.push_back({array.path, array.header.data_offset, array.header.shape[0]});
    }
    LOCKSTEP_RETURN_IF_ERROR(ReadNumpyTargets(y, options, part.labels, part.targets));
    const Tensor held = AreClassIndices(y) ? Tensor{part.labels.data(), Shape{y.rows}, DType::kI32}
                                           : Tensor{part.targets.data(), Shape{y.rows, y.row.elements()}, DType::kF32};
    const DType type = x.dtype == NpyType::kU8 ? DType::kU8 : x.dtype == NpyType::kF32 ? DType::kF32 : DType::kF64;
    const RecordLayout layout{.bytes = x.row_bytes(),
                              .features = x.row.elements(),
                              .type = type,
                              .scale = spec.has_scale() ? static_cast<float>(spec.scale()) : 1.0f,
                              .offset = static_cast<float>(spec.offset())};
    return Open(part, files, layout, held, options);
  }
};

template <typename Tables, typename Spec>
absl::StatusOr<std::unique_ptr<Dataset>> OpenTables(const Spec& spec, const TableOptions& options) {
  auto tables = std::make_unique<Tables>();
  LOCKSTEP_RETURN_IF_ERROR(tables->Load(spec, options));
  return tables;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenStreamedCifar(const v1::CifarDataset& spec, const TableOptions& options) {
  return OpenTables<StreamedCifar>(spec, options);
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenStreamedNumpy(const v1::NumpyDataset& spec, const TableOptions& options) {
  return OpenTables<StreamedNumpy>(spec, options);
}

}  // namespace lockstep
