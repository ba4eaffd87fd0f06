// SPDX-License-Identifier: Apache-2.0
// A job file with --set overrides, as a spec.
#pragma once

#include <string>
#include <vector>

#include "cli/options.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep::cli {

// `overrides`: "training.epochs=1", a path of mapping keys in the file's own words. Prints all that is
// wrong to options.err and returns the exit status; 0: `spec` is filled in.
int LoadJob(const Options& options, const std::string& path, const std::vector<std::string>& overrides,
            lockstep::v1::JobSpec* spec);

// The text with one override applied; an error starts with "error: ".
bool Override(const std::string& assignment, std::string* text, std::string* error);

}  // namespace lockstep::cli
