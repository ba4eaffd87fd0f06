// SPDX-License-Identifier: Apache-2.0
#include "worker/data/dataset.h"

#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/data/tables.h"

namespace lockstep {

namespace {

absl::StatusOr<std::unique_ptr<Dataset>> OpenSource(const v1::DatasetSpec& spec, const TableOptions& options) {
  const bool limited = spec.memory_limit_bytes() > 0;
  switch (spec.source_case()) {
    case v1::DatasetSpec::kIdx:
      return OpenIdxTables(spec.idx(), options);
    case v1::DatasetSpec::kCsv:
      return OpenCsvTables(spec.csv(), options);
    case v1::DatasetSpec::kCifar:
      return limited ? OpenStreamedCifar(spec.cifar(), options) : OpenCifarTables(spec.cifar(), options);
    case v1::DatasetSpec::kNumpy:
      return limited ? OpenStreamedNumpy(spec.numpy(), options) : OpenNumpyTables(spec.numpy(), options);
    case v1::DatasetSpec::SOURCE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("dataset: has no source; give idx, cifar, numpy or csv");
}

absl::Status TooLarge(const std::string& what) {
  return absl::ResourceExhaustedError(absl::StrCat(what,
                                                   "; numpy and cifar sets are read from their files while "
                                                   "training goes on where memory_limit_bytes is set"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const v1::DatasetSpec& spec,
                                                     const std::vector<std::string>& data_roots, uint64_t seed,
                                                     int64_t classes) {
  const bool split = spec.validation_fraction() > 0;
  // The one exception that reading may meet: a limit on this process's memory.
  try {
    absl::StatusOr<std::unique_ptr<Dataset>> dataset =
        OpenSource(spec, {.roots = data_roots, .seed = seed, .classes = classes, .without_test = split});
    if (absl::IsResourceExhausted(dataset.status())) return TooLarge(std::string(dataset.status().message()));
    if (!dataset.ok() || !split) return dataset;
    return SplitTraining(*std::move(dataset), spec.validation_fraction(), seed);
  } catch (const std::bad_alloc&) {
    return TooLarge("dataset: not enough memory to hold it");
  }
}

}  // namespace lockstep
