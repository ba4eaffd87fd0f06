// SPDX-License-Identifier: Apache-2.0
#include "common/model/idx_dataset.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {

IdxFiles IdxFileNames(const v1::IdxDataset& spec) {
  const auto join = [&](const std::string& given, const char* standard) {
    const std::string name(absl::StripSuffix(given.empty() ? standard : given, ".gz"));
    return (std::filesystem::path(spec.path()) / name).string();
  };
  return {.train_images = join(spec.train_images(), "train-images-idx3-ubyte"),
          .train_labels = join(spec.train_labels(), "train-labels-idx1-ubyte"),
          .test_images = join(spec.test_images(), "t10k-images-idx3-ubyte"),
          .test_labels = join(spec.test_labels(), "t10k-labels-idx1-ubyte")};
}

std::vector<std::string> IdxEndings() { return {"", ".gz"}; }

absl::Status CheckIdxPair(const Shape& images, const std::string& images_name, const Shape& labels,
                          const std::string& labels_name) {
  if (images.rank() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(images_name, ": has the shape ", images.ToString(),
                                                   "; images need a sample axis and at least one more"));
  }
  if (labels.rank() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(labels_name, ": has the shape ", labels.ToString(), "; labels have one axis"));
  }
  for (int64_t axis : images.dims()) {
    if (axis == 0) return absl::InvalidArgumentError(absl::StrCat(images_name, ": is empty: ", images.ToString()));
  }
  if (images[0] != labels[0]) {
    return absl::InvalidArgumentError(
        absl::StrCat(labels_name, ": has ", labels[0], " labels, but ", images_name, " has ", images[0], " images"));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
