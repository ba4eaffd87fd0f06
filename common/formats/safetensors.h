// SPDX-License-Identifier: Apache-2.0
// safetensors: a JSON header of names, types, shapes and offsets, then the bytes. Little-endian.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/shape.h"

namespace lockstep {

// One tensor to write; `bytes` belongs to the caller.
struct TensorToWrite {
  std::string name;
  // "F32", "F64", "I64", ...
  std::string dtype;
  Shape shape;
  std::span<const std::byte> bytes;
};

// Writes the file so that it appears under its name only whole and on disk: temporary file, fsync,
// rename, fsync of the folder. Same input, same bytes. RESOURCE_EXHAUSTED where the disk is full.
absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata);

struct TensorRead {
  std::string name;
  std::string dtype;
  Shape shape;
  // Into SafetensorsFile::storage.
  std::span<const std::byte> bytes;
};

struct SafetensorsFile {
  std::vector<std::byte> storage;
  std::map<std::string, std::string> metadata;
  // In the order of their bytes.
  std::vector<TensorRead> tensors;
};

// Reads and checks everything: header length, JSON, no duplicate names, no holes or overlaps, sizes
// that fit the shapes and the file. At most 10,000 tensors, a header of at most 16 MiB.
absl::StatusOr<SafetensorsFile> ReadSafetensors(const std::string& path);
// The same from an open file, whose position is neither used nor moved; `name` is used in messages.
absl::StatusOr<SafetensorsFile> ReadSafetensors(int fd, const std::string& name);
// The header alone, checked like the whole against the file's size: no tensor has bytes.
absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(int fd, const std::string& name);
// The same on bytes at hand; `name` is used in messages.
absl::StatusOr<SafetensorsFile> ParseSafetensors(std::vector<std::byte> bytes, const std::string& name);

}  // namespace lockstep
