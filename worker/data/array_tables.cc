// SPDX-License-Identifier: Apache-2.0
// CIFAR's and NumPy's sets: several files are one table.
#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/formats/array_reader.h"
#include "common/formats/memory_limit.h"
#include "common/formats/safe_path.h"
#include "common/model/cifar_dataset.h"
#include "common/model/numpy_dataset.h"
#include "common/status_macros.h"
#include "worker/data/tables.h"

namespace lockstep {

namespace {

// Both parts in memory.
class ArrayTables : public Dataset {
 public:
  const DataTable& train() const override { return parts_[0].table; }
  const DataTable& test() const override { return parts_[1].table; }
  const Shape& sample_shape() const override { return sample_; }

 protected:
  struct Part {
    // Samples are one of the two, and targets.
    std::vector<uint8_t> bytes;
    std::vector<float> floats;
    std::vector<int32_t> labels;
    std::vector<float> targets;
    DataTable table;
  };

  // `target_width` 0: labels.
  static void View(Part& part, int64_t samples, int64_t width, bool bytes, int64_t target_width, float scale,
                   float offset) {
    DataTable& table = part.table;
    const Shape shape{samples, width};
    table.features = bytes ? Tensor{part.bytes.data(), shape, DType::kU8} : Tensor{part.floats.data(), shape};
    table.targets = target_width == 0 ? Tensor{part.labels.data(), Shape{samples}, DType::kI32}
                                      : Tensor{part.targets.data(), Shape{samples, target_width}};
    table.samples = samples;
    table.scale = scale;
    table.offset = offset;
  }

  // Training and test part.
  std::array<Part, 2> parts_;
  Shape sample_;
};

absl::Status CheckLabel(int32_t label, int64_t classes, const std::string& name, int64_t row) {
  if (label >= 0 && label < classes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": label ", label, " of row ", row, " is out of range: the model has ", classes, " classes"));
}

class CifarTables final : public ArrayTables {
 public:
  absl::Status Load(const v1::CifarDataset& spec, const TableOptions& options) {
    sample_ = Shape{kCifarChannels, kCifarSide, kCifarSide};
    const CifarFiles files = CifarFileNames(spec);
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(spec, files.train, options, parts_[0]));
    return LoadPart(spec, options.without_test ? std::vector<std::string>{} : files.test, options, parts_[1]);
  }

 private:
  static absl::Status LoadPart(const v1::CifarDataset& spec, const std::vector<std::string>& files,
                               const TableOptions& options, Part& part) {
    const CifarLayout layout = CifarLayoutOf(spec);
    for (const std::string& path : files) {
      LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(path, options.roots));
      LOCKSTEP_ASSIGN_OR_RETURN(const int64_t records, CountCifarRecords(file.fd(), file.path(), layout));
      const size_t before = part.bytes.size(), first = part.labels.size();
      LOCKSTEP_RETURN_IF_ERROR(CheckFitsMemory(static_cast<int64_t>(before) + records * kCifarImageBytes, file.path()));
      part.bytes.resize(before + static_cast<size_t>(records * kCifarImageBytes));
      LOCKSTEP_RETURN_IF_ERROR(ReadCifar(file.fd(), file.path(), layout, part.bytes.data() + before, &part.labels));
      for (size_t i = first; i < part.labels.size(); ++i) {
        LOCKSTEP_RETURN_IF_ERROR(
            CheckLabel(part.labels[i], options.classes, file.path(), static_cast<int64_t>(i - first)));
      }
    }
    const float scale = static_cast<float>(spec.has_scale() ? spec.scale() : 1.0 / 255.0);
    View(part, static_cast<int64_t>(part.labels.size()), kCifarImageBytes, /*bytes=*/true, /*target_width=*/0, scale,
         static_cast<float>(spec.offset()));
    return absl::OkStatus();
  }
};

absl::Status ReadValues(ArrayReader& reader, uint8_t* to, int64_t count, const TableOptions&) {
  return reader.Read(to, static_cast<size_t>(count));
}
absl::Status ReadValues(ArrayReader& reader, float* to, int64_t count, const TableOptions&) {
  return reader.ReadFloats(to, count);
}
absl::Status ReadValues(ArrayReader& reader, int32_t* to, int64_t count, const TableOptions& options) {
  LOCKSTEP_RETURN_IF_ERROR(reader.ReadInt32s(to, count));
  for (int64_t i = 0; i < count; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(CheckLabel(to[i], options.classes, reader.name(), i));
  }
  return absl::OkStatus();
}

// Files were found to be as long as they say, so room for all is taken at once. With archives it grows array by array:
// what one claims costs memory only as far as its own limit goes.
template <typename T>
absl::Status Read(const NumpyColumn& column, const TableOptions& options, std::vector<T>& to) {
  const bool known = std::ranges::none_of(column.arrays, [](const NumpyArray& array) { return array.in_archive; });
  if (known) to.reserve(static_cast<size_t>(column.rows * column.row.elements()));
  for (const NumpyArray& array : column.arrays) {
    LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(array.path, options.roots));
    LOCKSTEP_ASSIGN_OR_RETURN(const auto reader, ArrayReader::Open(file.fd(), file.path(), array.member));
    if (!(reader->header().shape == array.header.shape) || reader->header().dtype != array.header.dtype) {
      return absl::DataLossError(absl::StrCat(array.name, ": changed while it was read"));
    }
    const size_t before = to.size();
    const int64_t count = array.header.shape.elements();
    to.resize(before + static_cast<size_t>(count));
    LOCKSTEP_RETURN_IF_ERROR(ReadValues(*reader, to.data() + before, count, options));
    LOCKSTEP_RETURN_IF_ERROR(reader->Finish());
  }
  return absl::OkStatus();
}

class NumpyTables final : public ArrayTables {
 public:
  absl::Status Load(const v1::NumpyDataset& spec, const TableOptions& options) {
    LOCKSTEP_RETURN_IF_ERROR(LoadPart(spec, spec.train_features(), spec.train_targets(), options, parts_[0]));
    if (options.without_test || spec.test_features().empty()) {
      const DataTable& train = parts_[0].table;
      const bool labels = train.targets.type == DType::kI32;
      View(parts_[1], 0, train.features.shape[1], train.features.type == DType::kU8,
           labels ? 0 : train.targets.shape[1], train.scale, train.offset);
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
    const int64_t width = x.row.elements(), target_width = AreClassIndices(y) ? 0 : y.row.elements();
    const bool bytes = x.dtype == NpyType::kU8;
    LOCKSTEP_RETURN_IF_ERROR(CheckFitsMemory(x.rows * x.row_bytes(), x.arrays[0].name));
    if (bytes) LOCKSTEP_RETURN_IF_ERROR(Read(x, options, part.bytes));
    if (!bytes) LOCKSTEP_RETURN_IF_ERROR(Read(x, options, part.floats));
    LOCKSTEP_RETURN_IF_ERROR(ReadNumpyTargets(y, options, part.labels, part.targets));
    const float scale = spec.has_scale() ? static_cast<float>(spec.scale()) : 1.0f;
    View(part, x.rows, width, bytes, target_width, scale, static_cast<float>(spec.offset()));
    return absl::OkStatus();
  }
};

template <typename Tables, typename Spec>
absl::StatusOr<std::unique_ptr<Dataset>> Open(const Spec& spec, const TableOptions& options) {
  auto tables = std::make_unique<Tables>();
  LOCKSTEP_RETURN_IF_ERROR(tables->Load(spec, options));
  return tables;
}

}  // namespace

absl::Status ReadNumpyTargets(const NumpyColumn& targets, const TableOptions& options, std::vector<int32_t>& labels,
                              std::vector<float>& numbers) {
  return AreClassIndices(targets) ? Read(targets, options, labels) : Read(targets, options, numbers);
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenCifarTables(const v1::CifarDataset& spec, const TableOptions& options) {
  return Open<CifarTables>(spec, options);
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenNumpyTables(const v1::NumpyDataset& spec, const TableOptions& options) {
  return Open<NumpyTables>(spec, options);
}

}  // namespace lockstep
