// SPDX-License-Identifier: Apache-2.0
// The four files of an IDX data set.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/shape.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Paths relative to a data root.
struct IdxFiles {
  std::string train_images, train_labels, test_images, test_labels;
};

// With MNIST's names where the spec gives none.
IdxFiles IdxFileNames(const lockstep::v1::IdxDataset& spec);

// Endings under which a file is looked for: as named, with .gz.
const std::vector<std::string>& IdxEndings();

// Images: [samples, ...]; labels: [samples], at least one sample, as many labels as images.
absl::Status CheckIdxPair(const Shape& images, const std::string& images_name, const Shape& labels,
                          const std::string& labels_name);

}  // namespace lockstep
