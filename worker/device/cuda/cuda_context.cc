// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/cuda_context.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep::cuda {

namespace {

constexpr size_t kBoundary = 256;

absl::string_view FileName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

void Failure::Note(const char* call, const char* file, int line, const char* error) {
  if (!ok()) return;
  text_ = absl::StrCat("the GPU failed: ", error, " (", call, ", ", FileName(file), ":", line, ")");
}

bool Failure::Check(cudaError_t code, const char* call, const char* file, int line) {
  if (code != cudaSuccess) Note(call, file, line, cudaGetErrorString(code));
  return code == cudaSuccess;
}

bool Failure::Check(cublasStatus_t code, const char* call, const char* file, int line) {
  if (code != CUBLAS_STATUS_SUCCESS) Note(call, file, line, cublasLtGetStatusString(code));
  return code == CUBLAS_STATUS_SUCCESS;
}

bool Failure::Check(cudnnStatus_t code, const char* call, const char* file, int line) {
  if (code != CUDNN_STATUS_SUCCESS) Note(call, file, line, cudnnGetErrorString(code));
  return code == CUDNN_STATUS_SUCCESS;
}

Workspace::~Workspace() {
  for (const Block& block : blocks_) static_cast<void>(cudaFree(block.data));
}

void* Workspace::Get(Slot slot, size_t bytes, cudaStream_t stream, Failure& failure) {
  Block& block = blocks_[static_cast<size_t>(slot)];
  if (bytes <= block.bytes && block.data != nullptr) return block.data;
  ++growths_;
  const size_t rounded = (bytes + kBoundary - 1) / kBoundary * kBoundary + kBoundary;
  // What is under way may still use it.
  failure.Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", __FILE__, __LINE__);
  static_cast<void>(cudaFree(block.data));
  block = {};
  void* data = nullptr;
  if (!failure.Check(cudaMalloc(&data, rounded), "scratch memory", __FILE__, __LINE__)) {
    // Not an error of the calls that come.
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  block = {data, rounded};
  return data;
}

size_t Workspace::bytes() const {
  size_t sum = 0;
  for (const Block& block : blocks_) sum += block.bytes;
  return sum;
}

}  // namespace lockstep::cuda
