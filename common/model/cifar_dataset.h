// SPDX-License-Identifier: Apache-2.0
// The files of a CIFAR data set.
#pragma once

#include <string>
#include <vector>

#include "common/formats/cifar.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Paths relative to a data root; several are one part, one behind the other.
struct CifarFiles {
  std::vector<std::string> train, test;
};

// With CIFAR's own names where the spec gives none.
CifarFiles CifarFileNames(const lockstep::v1::CifarDataset& spec);

CifarLayout CifarLayoutOf(const lockstep::v1::CifarDataset& spec);

}  // namespace lockstep
