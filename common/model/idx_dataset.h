// SPDX-License-Identifier: Apache-2.0
// The four files of an IDX data set: their names and what must hold between them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/shape.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Paths relative to a data root, without ".gz".
struct IdxFiles {
  std::string train_images;
  std::string train_labels;
  std::string test_images;
  std::string test_labels;
};

// The folder and the names given, or MNIST's.
IdxFiles IdxFileNames(const lockstep::v1::IdxDataset& spec);

// What to try behind each name: the plain file, then the compressed one.
std::vector<std::string> IdxEndings();

// Images need a sample axis and at least one more, none of them empty; labels have one axis, as long as
// there are images. Errors: INVALID_ARGUMENT, naming the files.
absl::Status CheckIdxPair(const Shape& images, const std::string& images_name, const Shape& labels,
                          const std::string& labels_name);

}  // namespace lockstep
