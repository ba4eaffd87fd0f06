// SPDX-License-Identifier: Apache-2.0
// CUDA's functions for one GPU whose memory is the host's: done when they return. While a stream is captured, nothing
// is allocated or freed, which CUDA allows in some modes and may wait for the stream.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/emulator/capture.h"

using lockstep::emulated::Capturing;
using lockstep::emulated::CheckStream;
using lockstep::emulated::Enqueue;

// The toolkit's headers leave open what a stream is.
struct CUstream_st {};

namespace {

// What was allocated: where it begins, how long it is, and whether it is the host's.
struct Block {
  size_t bytes = 0;
  bool host = false;
};
std::mutex memory_mutex;
std::map<uintptr_t, Block> memory;

cudaError_t Allocate(void** data, size_t bytes, bool host) {
  if (Capturing()) return cudaErrorStreamCaptureUnsupported;
  // Freshly allocated memory of a GPU holds anything; of large scratch memory the beginning will do.
  constexpr size_t kSpoilt = size_t{1} << 20;
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xa5, std::min(bytes, kSpoilt));
  const std::lock_guard lock(memory_mutex);
  memory[reinterpret_cast<uintptr_t>(*data)] = {bytes, host};
  return cudaSuccess;
}
cudaError_t Free(void* data) {
  if (Capturing()) return cudaErrorStreamCaptureUnsupported;
  if (data == nullptr) return cudaSuccess;
  {
    const std::lock_guard lock(memory_mutex);
    if (memory.erase(reinterpret_cast<uintptr_t>(data)) == 0) return cudaErrorInvalidValue;
  }
  std::free(data);
  return cudaSuccess;
}

// True: all of it is page-locked memory of the host's. Other memory of the host's would make a copy wait for the
// stream, and fail where it is captured.
bool IsPinned(const void* data, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(data);
  const std::lock_guard lock(memory_mutex);
  auto block = memory.upper_bound(at);
  if (block == memory.begin()) return false;
  --block;
  return block->second.host && at + bytes <= block->first + block->second.bytes;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
// cuda_runtime_api.h renames it.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  properties->totalGlobalMem = size_t{1} << 30;
  properties->major = 9;
  properties->multiProcessorCount = 2;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int) {
  std::strncpy(id, "0000:00:00.0", static_cast<size_t>(length));
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  // Few blocks of an element-wise kernel, so that each has to do more than one round.
  *value = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the emulated GPU"; }

cudaError_t cudaMalloc(void** data, size_t bytes) { return Allocate(data, bytes, false); }
cudaError_t cudaMallocHost(void** data, size_t bytes) { return Allocate(data, bytes, true); }
cudaError_t cudaFree(void* data) { return Free(data); }
cudaError_t cudaFreeHost(void* data) { return Free(data); }
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = *total = size_t{1} << 30;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (IsPinned(from, bytes) != (kind == cudaMemcpyHostToDevice)) return cudaErrorInvalidValue;
  if (IsPinned(to, bytes) != (kind == cudaMemcpyDeviceToHost)) return cudaErrorInvalidValue;
  CheckStream(stream);
  Enqueue([=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  if (IsPinned(data, bytes)) return cudaErrorInvalidValue;
  CheckStream(stream);
  Enqueue([=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return Capturing() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

}  // extern "C"
