// SPDX-License-Identifier: Apache-2.0
// What every operation of the CUDA device works with: one stream, the libraries' handles, scratch memory, and the
// first thing that went wrong. Of one thread, like the device.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <array>
#include <cstddef>
#include <string>

#include "worker/device/cuda/recording.h"

namespace lockstep::cuda {

// What went wrong first. An operation of a device has no way to fail but a bug, a broken GPU or too little scratch
// memory: it is remembered here, what follows is undefined, and the device gives it out where it can (Allocate).
class Failure {
 public:
  bool ok() const { return text_.empty(); }
  const std::string& text() const { return text_; }
  // Only the first is kept. `call`: the source of the call.
  void Note(const char* call, const char* file, int line, const char* error);

  // True: no error.
  bool Check(cudaError_t code, const char* call, const char* file, int line);
  bool Check(cublasStatus_t code, const char* call, const char* file, int line);
  bool Check(cudnnStatus_t code, const char* call, const char* file, int line);

 private:
  std::string text_;
};

// Scratch memory on the device, in the order of the stream: what a call leaves there may be overwritten by the next
// call that asks for the same slot.
enum class Slot : unsigned char {
  // What cuBLASLt and cuDNN ask for.
  kLibrary,
  // Factors of a product, rounded or rearranged.
  kLeft,
  kRight,
  // A result before it is rearranged or added.
  kOut,
  // Partial sums of a reduction.
  kPartials,
  // Images in the other layout, for a call that does without a product in theirs.
  kFirstImages,
  kSecondImages,
  // A bias, rounded.
  kVector,
  // A result in floats that is kept as factors are, and what such a factor is in floats.
  kWideOut,
  kWide,
};
inline constexpr size_t kSlots = 10;

class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // At least `bytes` on a boundary of 256; null where memory is short, which is noted. Not zeroed. A slot grows to the
  // largest request, so that a step of a shape seen before allocates nothing.
  void* Get(Slot slot, size_t bytes, cudaStream_t stream, Failure& failure);
  // How often a slot has grown: a recorded graph holds the addresses of its time, and is stale after that.
  int growths() const { return growths_; }
  size_t bytes() const;

 private:
  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
  };
  std::array<Block, kSlots> blocks_;
  int growths_ = 0;
};

struct Context {
  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;
  cudnnHandle_t dnn = nullptr;
  Workspace& workspace;
  Failure& failure;
  int device = 0;
  // Multiprocessors.
  int sm_count = 1;
  Recording recording = {};

  template <typename T>
  T* Scratch(Slot slot, size_t count) {
    return static_cast<T*>(workspace.Get(slot, count * sizeof(T), stream, failure));
  }
};

// True where the call of CUDA, cuBLASLt or cuDNN succeeded; else it is noted in the context.
#define LOCKSTEP_CUDA_CHECK(context, call) ((context).failure.Check((call), #call, __FILE__, __LINE__))
// After <<<>>>.
#define LOCKSTEP_CUDA_CHECK_LAUNCH(context) \
  ((context).failure.Check(cudaGetLastError(), "the launch of a kernel", __FILE__, __LINE__))

}  // namespace lockstep::cuda
