// SPDX-License-Identifier: Apache-2.0
// Hashes: a fast one that tells two parameter sets apart, and SHA-256 for files.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// XXH3 128-bit of the bytes, 32 hexadecimal digits.
std::string FastDigest(std::span<const std::byte> bytes);
// SHA-256, 64 hexadecimal digits.
std::string Sha256(std::span<const std::byte> bytes);
// SHA-256 of a file's bytes. Errors: NOT_FOUND, or what reading it says.
absl::StatusOr<std::string> Sha256File(const std::string& path);

}  // namespace lockstep
