// SPDX-License-Identifier: Apache-2.0
#include "common/model/numpy_dataset.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/formats/array_reader.h"
#include "common/formats/safe_path.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr const char* kArchive = ".npz:";

// "a.npz:x" is the array x of a.npz.
std::pair<std::string, std::string> SplitMember(const std::string& pattern) {
  const size_t at = pattern.rfind(kArchive);
  if (at == std::string::npos) return {pattern, ""};
  const size_t colon = at + std::string(kArchive).size() - 1;
  return {pattern.substr(0, colon), pattern.substr(colon + 1)};
}

absl::Status Append(NumpyArray array, NumpyColumn& column) {
  const Shape& shape = array.header.shape;
  if (shape.rank() == 0) return absl::InvalidArgumentError(absl::StrCat(array.name, ": is a single number, no array"));
  const Shape row(shape.dims().subspan(1));
  if (column.arrays.empty()) {
    column.dtype = array.header.dtype;
    column.row = row;
  } else if (column.dtype != array.header.dtype || !(column.row == row)) {
    return absl::InvalidArgumentError(absl::StrCat(array.name, ": rows of ", NameOf(array.header.dtype), " ",
                                                   row.ToString(), ", but those of ", column.arrays[0].name, " are ",
                                                   NameOf(column.dtype), " ", column.row.ToString()));
  }
  int64_t bytes = 0;
  if (__builtin_add_overflow(column.rows, shape[0], &column.rows) ||
      __builtin_mul_overflow(column.rows, column.row_bytes(), &bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(array.name, ": more values in all than can be counted"));
  }
  column.arrays.push_back(std::move(array));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NumpyColumn> OpenNumpyColumn(const NumpyPatterns& patterns, const std::vector<std::string>& roots) {
  NumpyColumn column;
  for (const std::string& pattern : patterns) {
    const auto [files, member] = SplitMember(pattern);
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandUnderRoots(files, roots));
    for (const std::string& path : paths) {
      LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(path, roots));
      LOCKSTEP_ASSIGN_OR_RETURN(const auto reader, ArrayReader::Open(file.fd(), file.path(), member));
      LOCKSTEP_RETURN_IF_ERROR(Append({path, member, reader->name(), reader->header(), reader->in_archive()}, column));
    }
  }
  if (column.arrays.empty()) return absl::InvalidArgumentError("is missing; name at least one array");
  return column;
}

absl::Status CheckNumpyFeatures(const NumpyColumn& features) {
  const std::string& name = features.arrays[0].name;
  if (IsInteger(features.dtype) && features.dtype != NpyType::kU8) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": samples of ", NameOf(features.dtype), "; convert them to uint8, float32 or float64"));
  }
  if (features.rows == 0 || features.row.elements() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": holds no values"));
  }
  if (features.row.rank() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": has one axis; samples need at least two: reshape it to [samples, 1]"));
  }
  return absl::OkStatus();
}

absl::Status CheckNumpyTargets(const NumpyColumn& targets, const NumpyColumn& features) {
  const std::string& name = targets.arrays[0].name;
  if (targets.row.rank() > 1 || targets.row.elements() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": a target has the shape ", targets.row.ToString(),
                                                   "; targets are [samples] or [samples, targets]"));
  }
  const auto differ = [](const std::string& a, int64_t samples, const std::string& b, int64_t rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(a, " holds ", samples, " samples, but ", b, " holds ", rows, " targets"));
  };
  // Otherwise targets would belong to the wrong samples where files are named in another order.
  for (size_t i = 0; targets.arrays.size() == features.arrays.size() && i < targets.arrays.size(); ++i) {
    const NumpyArray& a = features.arrays[i];
    const NumpyArray& b = targets.arrays[i];
    if (a.header.shape[0] != b.header.shape[0]) return differ(a.name, a.header.shape[0], b.name, b.header.shape[0]);
  }
  if (targets.rows == features.rows) return absl::OkStatus();
  return differ(absl::StrCat(features.arrays[0].name, " and those behind it"), features.rows,
                absl::StrCat(name, " and those behind it"), targets.rows);
}

absl::StatusOr<NumpyColumns> OpenNumpyColumns(const NumpyPatterns& features, const NumpyPatterns& targets,
                                              const std::vector<std::string>& roots) {
  NumpyColumns part;
  LOCKSTEP_ASSIGN_OR_RETURN(part.features, OpenNumpyColumn(features, roots));
  LOCKSTEP_RETURN_IF_ERROR(CheckNumpyFeatures(part.features));
  LOCKSTEP_ASSIGN_OR_RETURN(part.targets, OpenNumpyColumn(targets, roots));
  LOCKSTEP_RETURN_IF_ERROR(CheckNumpyTargets(part.targets, part.features));
  return part;
}

bool AreClassIndices(const NumpyColumn& targets) { return IsInteger(targets.dtype) && targets.row.elements() == 1; }

}  // namespace lockstep
