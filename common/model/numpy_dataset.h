// SPDX-License-Identifier: Apache-2.0
// The arrays of a NumPy data set: which files they are in, and that they fit together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/formats/npy.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// One array. Its file is opened when it is needed: a set may have more files than a process may open.
struct NumpyArray {
  // For OpenUnderRoots.
  std::string path;
  // For ArrayReader: the array of a .npz archive, or "".
  std::string member;
  // For messages.
  std::string name;
  NpyHeader header;
  // A .npy file: its rows can be read in any order. Those of an archive only from front to back.
  bool in_archive = false;
};

// Arrays that are one, one behind the other: of the same type and shape but for the first axis.
struct NumpyColumn {
  std::vector<NumpyArray> arrays;
  NpyType dtype = NpyType::kU8;
  // Without the first axis.
  Shape row;
  // Over all arrays.
  int64_t rows = 0;

  // Of one row.
  int64_t row_bytes() const { return row.elements() * static_cast<int64_t>(SizeOf(dtype)); }
};

// "folder/shards-*.npz:images" to arrays, and reads their headers. Errors name the array.
using NumpyPatterns = google::protobuf::RepeatedPtrField<std::string>;
absl::StatusOr<NumpyColumn> OpenNumpyColumn(const NumpyPatterns& patterns, const std::vector<std::string>& roots);

// Samples are of uint8, float32 or float64, at least one, with at least one value each.
absl::Status CheckNumpyFeatures(const NumpyColumn& features);
// Targets are [samples] or [samples, targets], as many as there are samples; where both have as many
// arrays, each has as many rows as its counterpart.
absl::Status CheckNumpyTargets(const NumpyColumn& targets, const NumpyColumn& features);

// Samples and targets of one part, opened and checked.
struct NumpyColumns {
  NumpyColumn features, targets;
};
absl::StatusOr<NumpyColumns> OpenNumpyColumns(const NumpyPatterns& features, const NumpyPatterns& targets,
                                              const std::vector<std::string>& roots);

// Whole numbers, one for each sample: class indices. Else the targets are numbers.
bool AreClassIndices(const NumpyColumn& targets);

}  // namespace lockstep
