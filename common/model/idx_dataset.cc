// SPDX-License-Identifier: Apache-2.0
#include "common/model/idx_dataset.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {

IdxFiles IdxFileNames(const v1::IdxDataset& spec) {
  const auto in_folder = [&](const std::string& given, const char* otherwise) {
    // Either form is looked for, whichever is named.
    const std::string name(absl::StripSuffix(given.empty() ? otherwise : given, ".gz"));
    return spec.path().empty() ? name : absl::StrCat(spec.path(), "/", name);
  };
  return {in_folder(spec.train_images(), "train-images-idx3-ubyte"),
          in_folder(spec.train_labels(), "train-labels-idx1-ubyte"),
          in_folder(spec.test_images(), "t10k-images-idx3-ubyte"),
          in_folder(spec.test_labels(), "t10k-labels-idx1-ubyte")};
}

const std::vector<std::string>& IdxEndings() {
  static const std::vector<std::string> endings{"", ".gz"};
  return endings;
}

absl::Status CheckIdxPair(const Shape& images, const std::string& images_name, const Shape& labels,
                          const std::string& labels_name) {
  if (images.rank() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(images_name, ": has the shape ", images.ToString(), "; images need at least two axes"));
  }
  if (labels.rank() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(labels_name, ": has the shape ", labels.ToString(), "; labels need one axis"));
  }
  if (images.elements() == 0) return absl::InvalidArgumentError(absl::StrCat(images_name, ": holds no pixels"));
  if (images[0] != labels[0]) {
    return absl::InvalidArgumentError(
        absl::StrCat(images_name, " holds ", images[0], " images, but ", labels_name, " holds ", labels[0], " labels"));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
