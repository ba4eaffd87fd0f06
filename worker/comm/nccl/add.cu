// SPDX-License-Identifier: Apache-2.0
// The kernel that adds slices, and what orders it with the rest of a step.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "worker/comm/nccl/reduce_ops.h"

namespace lockstep::nccl {

namespace {

constexpr int kThreads = 256;
// Blocks per multiprocessor: enough to fill the memory's queues, few enough to leave room for backward beside it.
constexpr int kBlocksPerProcessor = 4;

// V: what a thread adds at once; T: what the arrays hold.
template <typename V, typename T>
struct LeafOf {
  const TreeAdd<T>& args;
  int64_t at;
  LOCKSTEP_MATH V operator()(int i) const { return reinterpret_cast<const V*>(args.leaves[i])[at]; }
};

// kLeaves 0: by the program. `count`: of V.
template <int kLeaves, typename V, typename T>
__global__ void AddKernel(const __grid_constant__ TreeAdd<T> args, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  bool finite = true;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const LeafOf<V, T> leaf{args, i};
    V sum;
    if constexpr (kLeaves == 0) {
      sum = AddTree<V>(args.program, leaf);
    } else {
      sum = AddPerfectTree<kLeaves, V>(leaf);
    }
    finite = finite && IsFiniteValue(sum);
    reinterpret_cast<V*>(args.out)[i] = sum;
  }
  // All write the same.
  if (!finite && args.not_finite != nullptr) *args.not_finite = 1.0;
}

bool IsPerfect(const TreeProgram& program) {
  for (int i = 0; i < program.leaves; ++i) {
    int ones = 0;
    while ((i >> ones) % 2 != 0) ++ones;
    if (program.merges[i] != ones) return false;
  }
  return true;
}

class CudaReduceOps final : public ReduceOps {
 public:
  explicit CudaReduceOps(cudaStream_t compute) : compute_(compute) {}

  ~CudaReduceOps() override {
    for (void* block : blocks_) cudaFree(block);
    for (void* block : host_blocks_) cudaFreeHost(block);
    if (order_ != nullptr) cudaEventDestroy(order_);
    if (mark_ != nullptr) cudaEventDestroy(mark_);
    if (reduce_ != nullptr) cudaStreamDestroy(reduce_);
  }

  absl::Status Build() {
    int device = 0;
    int least = 0, greatest = 0;
    Note(cudaGetDevice(&device), "cudaGetDevice");
    Note(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
    Note(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    // What travels first is waited for first.
    Note(cudaStreamCreateWithPriority(&reduce_, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
    Note(cudaEventCreateWithFlags(&order_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    Note(cudaEventCreateWithFlags(&mark_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return first_error_;
  }

  Stream stream(Lane lane) const override { return lane == Lane::kCompute ? compute_ : reduce_; }

  absl::StatusOr<void*> Allocate(size_t bytes) override {
    void* block = nullptr;
    const cudaError_t code = cudaMalloc(&block, std::max<size_t>(bytes, 1));
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return absl::ResourceExhaustedError("not enough GPU memory for the reduction: " + std::to_string(bytes) +
                                          " bytes wanted");
    }
    Note(code, "cudaMalloc");
    LOCKSTEP_RETURN_IF_ERROR(first_error_);
    blocks_.push_back(block);
    Note(cudaMemsetAsync(block, 0, bytes, compute_), "cudaMemsetAsync");
    Note(cudaStreamSynchronize(compute_), "cudaStreamSynchronize");
    LOCKSTEP_RETURN_IF_ERROR(first_error_);
    return block;
  }

  absl::StatusOr<void*> AllocateHost(size_t bytes) override {
    void* block = nullptr;
    Note(cudaMallocHost(&block, std::max<size_t>(bytes, 1)), "cudaMallocHost");
    LOCKSTEP_RETURN_IF_ERROR(first_error_);
    host_blocks_.push_back(block);
    std::memset(block, 0, bytes);
    return block;
  }
  void Copy(Lane lane, void* to, const void* from, size_t bytes) override {
    Note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, Of(lane)), "cudaMemcpyAsync");
  }

  // One event is enough: a wait is for what the event stood for when it was enqueued.
  void Order(Lane first, Lane second) override {
    Note(cudaEventRecord(order_, Of(first)), "cudaEventRecord");
    Note(cudaStreamWaitEvent(Of(second), order_, 0), "cudaStreamWaitEvent");
  }
  void Zero(Lane lane, void* data, size_t bytes) override {
    Note(cudaMemsetAsync(data, 0, bytes, Of(lane)), "cudaMemsetAsync");
  }
  void Add(Lane lane, const TreeAdd<float>& args) override { Launch<Four>(lane, args); }
  void Add(Lane lane, const TreeAdd<double>& args) override { Launch<double>(lane, args); }

  void Mark(Lane lane) override { Note(cudaEventRecord(mark_, Of(lane)), "cudaEventRecord"); }
  absl::StatusOr<bool> Reached() override {
    LOCKSTEP_RETURN_IF_ERROR(first_error_);
    const cudaError_t code = cudaEventQuery(mark_);
    if (code == cudaErrorNotReady) {
      // Else the next launch would be told of it.
      cudaGetLastError();
      return false;
    }
    Note(code, "cudaEventQuery");
    LOCKSTEP_RETURN_IF_ERROR(first_error_);
    return true;
  }

 private:
  cudaStream_t Of(Lane lane) const { return lane == Lane::kCompute ? compute_ : reduce_; }

  template <typename V, typename T>
  void Launch(Lane lane, const TreeAdd<T>& args) {
    const int64_t count = args.count * static_cast<int64_t>(sizeof(T)) / static_cast<int64_t>(sizeof(V));
    if (count <= 0) return;
    const int64_t wanted = (count + kThreads - 1) / kThreads;
    const int blocks = static_cast<int>(std::min<int64_t>(wanted, int64_t{processors_} * kBlocksPerProcessor));
    switch (IsPerfect(args.program) ? args.program.leaves : 0) {
      case 2:
        AddKernel<2, V, T><<<blocks, kThreads, 0, Of(lane)>>>(args, count);
        break;
      case 4:
        AddKernel<4, V, T><<<blocks, kThreads, 0, Of(lane)>>>(args, count);
        break;
      case 8:
        AddKernel<8, V, T><<<blocks, kThreads, 0, Of(lane)>>>(args, count);
        break;
      default:
        AddKernel<0, V, T><<<blocks, kThreads, 0, Of(lane)>>>(args, count);
    }
    Note(cudaGetLastError(), "the launch of the addition");
  }

  void Note(cudaError_t code, const char* call) {
    if (code == cudaSuccess) return;
    // Keeps the first.
    first_error_.Update(
        absl::InternalError(std::string("the GPU failed in ") + call + ": " + cudaGetErrorString(code)));
  }

  const cudaStream_t compute_;
  cudaStream_t reduce_ = nullptr;
  cudaEvent_t order_ = nullptr;
  cudaEvent_t mark_ = nullptr;
  int processors_ = 1;
  std::vector<void*> blocks_, host_blocks_;
  absl::Status first_error_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReduceOps>> MakeCudaReduceOps(Stream compute) {
  auto ops = std::make_unique<CudaReduceOps>(static_cast<cudaStream_t>(compute));
  LOCKSTEP_RETURN_IF_ERROR(ops->Build());
  return std::unique_ptr<ReduceOps>(std::move(ops));
}

}  // namespace lockstep::nccl
