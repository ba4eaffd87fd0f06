// SPDX-License-Identifier: Apache-2.0
// Copies to the GPU on a stream of their own.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/uploads.h"

namespace lockstep::cuda {

class StreamUploads final : public Uploads {
 public:
  // The context outlives it.
  explicit StreamUploads(Context* context) : context_(*context) {}
  ~StreamUploads() override;
  StreamUploads(const StreamUploads&) = delete;
  StreamUploads& operator=(const StreamUploads&) = delete;

  // Before the others; false: noted.
  bool Create();
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t bytes) override;
  void Begin(void* to, const void* from, size_t bytes) override;
  void Join() override;
  void Finish() override;

 private:
  // What is put on `second` from now on comes after all that is on `first`.
  void Order(cudaStream_t first, cudaEvent_t event, cudaStream_t second);

  Context& context_;
  cudaStream_t stream_ = nullptr;
  // The device's work until a copy began; the copies until they were joined.
  cudaEvent_t before_ = nullptr;
  cudaEvent_t copied_ = nullptr;
};

}  // namespace lockstep::cuda
