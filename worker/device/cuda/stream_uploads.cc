// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/stream_uploads.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace lockstep::cuda {

namespace {

class PinnedBuffer final : public Buffer {
 public:
  PinnedBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  // Waits for what is under way.
  ~PinnedBuffer() override { static_cast<void>(cudaFreeHost(data_)); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

}  // namespace

StreamUploads::~StreamUploads() {
  if (stream_ != nullptr) {
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  for (const cudaEvent_t event : {before_, copied_}) {
    if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
  }
}

bool StreamUploads::Create() {
  return LOCKSTEP_CUDA_CHECK(context_, cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)) &&
         LOCKSTEP_CUDA_CHECK(context_, cudaEventCreateWithFlags(&before_, cudaEventDisableTiming)) &&
         LOCKSTEP_CUDA_CHECK(context_, cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming));
}

absl::StatusOr<std::unique_ptr<Buffer>> StreamUploads::AllocateHost(size_t bytes) {
  void* data = nullptr;
  const size_t taken = std::max<size_t>(bytes, 1);
  if (const cudaError_t error = cudaMallocHost(&data, taken); error != cudaSuccess) {
    // Not an error of the calls that come.
    static_cast<void>(cudaGetLastError());
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot allocate ", bytes, " bytes of page-locked memory: ", cudaGetErrorString(error), "; see ulimit -l"));
  }
  std::memset(data, 0, taken);
  return std::make_unique<PinnedBuffer>(data, bytes);
}

void StreamUploads::Order(cudaStream_t first, cudaEvent_t event, cudaStream_t second) {
  if (LOCKSTEP_CUDA_CHECK(context_, cudaEventRecord(event, first))) {
    LOCKSTEP_CUDA_CHECK(context_, cudaStreamWaitEvent(second, event, 0));
  }
}

void StreamUploads::Begin(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Order(context_.stream, before_, stream_);
  LOCKSTEP_CUDA_CHECK(context_, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_));
}

void StreamUploads::Join() { Order(stream_, copied_, context_.stream); }

void StreamUploads::Finish() { LOCKSTEP_CUDA_CHECK(context_, cudaStreamSynchronize(stream_)); }

}  // namespace lockstep::cuda
