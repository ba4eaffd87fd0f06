// SPDX-License-Identifier: Apache-2.0
// safetensors files, and what a model says of its inputs.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "common/model/preprocessing.h"
#include "common/model/trained_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  auto file = lockstep::ParseSafetensors({bytes, bytes + size}, "f");
  if (!file.ok()) return 0;
  // Every byte of every tensor is there.
  volatile std::byte last{};
  for (const lockstep::TensorRead& tensor : file->tensors) {
    if (!tensor.bytes.empty()) last = tensor.bytes.back();
  }
  const auto preprocessing = lockstep::PreprocessingOfModel(*file, "f");
  if (!preprocessing.ok()) return 0;
  const std::string text = lockstep::PreprocessingText(*preprocessing);
  const auto again = lockstep::ParsePreprocessing(text, "f");
  if (!again.ok() || lockstep::PreprocessingText(*again) != text) std::abort();
  const auto model = lockstep::TrainedModelOf(*std::move(file), "f");
  // What was checked can be written.
  if (model.ok() && !lockstep::TrainedModelToOnnx(*model).ok()) std::abort();
  return 0;
}
