// SPDX-License-Identifier: Apache-2.0
// Data sets from the network, each file pinned by its SHA-256.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

// One file to have.
struct PinnedFile {
  std::string name;
  std::string sha256;
  // Its size; more than this is never downloaded.
  int64_t bytes = 0;
};

// Told now and then: the file, bytes so far, bytes in all. From the calling thread.
using FetchProgress = std::function<void(const std::string& name, int64_t done, int64_t total)>;

// Brings `files` into `folder`, made where it is missing. A file that is there with the right hash is
// kept. A download goes to a temporary file and gets its name only when its hash is right. The mirrors
// (URLs that end in "/") are tried in order. UNAVAILABLE where none can be reached, DATA_LOSS where all
// that came had another hash; both say what each mirror answered.
absl::Status FetchFiles(const std::vector<PinnedFile>& files, const std::vector<std::string>& mirrors,
                        const std::string& folder, const FetchProgress& progress = nullptr);

// MNIST's four compressed files, 11.6 MB.
const std::vector<PinnedFile>& MnistFiles();
const std::vector<std::string>& MnistMirrors();
absl::Status FetchMnist(const std::string& folder, const FetchProgress& progress = nullptr,
                        const std::vector<std::string>& mirrors = MnistMirrors());

}  // namespace lockstep
