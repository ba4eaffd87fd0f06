// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <type_traits>

#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/cuda/update.h"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/optimizers.h"

namespace lockstep::cuda {

namespace {

template <typename T>
struct UpdateArrays {
  T* w;
  T* g;
  T* state[kMaxUpdateStates];
};

// A call's arguments: its own, or those of the step that runs.
struct UpdateCall {
  UpdateArgs args;
  const StepCursor* cursor = nullptr;
  UpdateTable table;
  int64_t call = 0;

  __device__ bool Halted() const { return cursor != nullptr && cursor->halted != 0; }
  __device__ const UpdateArgs& Args() const {
    return cursor == nullptr ? args : table.args[cursor->decided * table.calls + call];
  }
};

UpdateCall NextCall(Recording& recording, const UpdateArgs& args) {
  UpdateCall call{.args = args};
  if (recording.halted() == nullptr) return call;
  call.cursor = recording.cursor;
  call.table = recording.updates;
  call.call = recording.next_update++;
  return call;
}

template <bool kDecays, typename T, typename Math>
__device__ void UpdateOne(const Math& math, T decay, T& w, T& g, T& s0, T& s1, T& s2) {
  if constexpr (kDecays) {
    // Minus zero stays what it is.
    if (decay != 0) w -= decay * w;
  }
  if constexpr (Math::kStates == 0) math(w, g);
  if constexpr (Math::kStates == 1) math(w, g, s0);
  if constexpr (Math::kStates == 2) math(w, g, s0, s1);
  if constexpr (Math::kStates == 3) math(w, g, s0, s1, s2);
}

// Elements from `first` on, `packs` times Width of them.
template <bool kDecays, int Width, typename T, typename Math>
__device__ void UpdatePacks(const Math& math, T decay, const UpdateArrays<T>& arrays, int64_t first, int64_t packs) {
  using P = Pack<T, Width>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const int64_t at = first + i * Width;
    P w = P::Load(arrays.w + at), g = P::Load(arrays.g + at);
    P states[kMaxUpdateStates];
#pragma unroll
    for (int s = 0; s < Math::kStates; ++s) states[s] = P::Load(arrays.state[s] + at);
#pragma unroll
    for (int k = 0; k < Width; ++k) {
      UpdateOne<kDecays>(math, decay, w.at[k], g.at[k], states[0].at[k], states[1].at[k], states[2].at[k]);
    }
    if constexpr (Math::kWritesWeight) w.Store(arrays.w + at);
    if constexpr (Math::kWritesGradient) g.Store(arrays.g + at);
#pragma unroll
    for (int s = 0; s < Math::kStates; ++s) states[s].Store(arrays.state[s] + at);
  }
}

// All n elements, the first ones in packs. The functor is made here, since it may read norms, which lie on the device.
template <bool kDecays, typename T, typename Math>
__global__ void UpdateKernel(UpdateCall call, UpdateArrays<T> arrays, int64_t packs, int64_t n) {
  constexpr int kWidth = kPackWidth<T>;
  if (call.Halted()) return;
  const UpdateArgs& args = call.Args();
  const Math math(args);
  const T decay = static_cast<T>(args.decay);
  UpdatePacks<kDecays, kWidth>(math, decay, arrays, 0, packs);
  UpdatePacks<kDecays, 1>(math, decay, arrays, packs * kWidth, n - packs * kWidth);
}

template <typename T>
bool OnPacks(const UpdateArrays<T>& arrays) {
  const auto fits = [](const T* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Pack<T, kPackWidth<T>>) == 0; };
  return fits(arrays.w) && fits(arrays.g) && std::all_of(std::begin(arrays.state), std::end(arrays.state), fits);
}

template <bool kDecays, typename T, typename Math>
void Run(Context& context, const UpdateCall& call, const UpdateArrays<T>& arrays, int64_t n) {
  const int64_t packs = OnPacks(arrays) ? n / kPackWidth<T> : 0;
  UpdateKernel<kDecays, T, Math>
      <<<BlocksFor(context, packs > 0 ? packs : n), kThreads, 0, context.stream>>>(call, arrays, packs, n);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

template <typename T>
void ApplyAs(Context& context, UpdateRule rule, const UpdateArgs& args, const UpdateArrays<T>& arrays, int64_t n) {
  // Here only the functor's type is wanted: where it reads norms, it finds some that the host may touch.
  double norms[2] = {1, 1};
  UpdateArgs on_host = args;
  on_host.norms.data = norms;
  const UpdateCall call = NextCall(context.recording, args);
  VisitUpdate<T>(rule, on_host, [&](const auto& math) {
    using Math = std::decay_t<decltype(math)>;
    if constexpr (Math::kWritesWeight && !Math::kWritesGradient) {
      // A recorded call's rate may be 0 now and not later.
      if (args.decay != 0 || call.cursor != nullptr) return Run<true, T, Math>(context, call, arrays, n);
    }
    Run<false, T, Math>(context, call, arrays, n);
  });
}

// Elements that a block of SumSquares takes, 16 a thread; the order of the sum depends on it.
constexpr int64_t kSquaresPerBlock = 16 * kThreads;
// Above so many a block takes more of them, in turns.
constexpr int64_t kMaxSquareBlocks = 4096;

template <typename T>
__global__ void SumSquaresKernel(const T* __restrict__ x, int64_t n, SumTarget target) {
  __shared__ double shared[kThreads];
  double sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += step) {
    const double v = static_cast<double>(x[i]);
    sum += v * v;
  }
  sum = BlockSum<kThreads>(sum, shared);
  if (threadIdx.x == 0) target.Leave(blockIdx.x, 1, 0, sum);
}

template <typename T>
struct FiniteOp {
  const T* x;
  double* flag;
  // Who finds one writes the same number as everybody else.
  __device__ void operator()(int64_t i) const {
    if (!isfinite(x[i])) *flag = 1;
  }
};

// All of the exponent's bits are set.
struct FiniteFactorOp {
  const uint16_t* x;
  uint16_t exponent;
  double* flag;
  __device__ void operator()(int64_t i) const {
    if ((x[i] & exponent) == exponent) *flag = 1;
  }
};

}  // namespace

void ApplyUpdate(Context& context, UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                 std::span<const Tensor> state) {
  if (w.elements() == 0) return;
  if (Recording& recording = context.recording; recording.collected != nullptr) {
    if (recording.next_update < recording.updates.calls) recording.collected[recording.next_update] = args;
    ++recording.next_update;
    return;
  }
  VisitReal(w.type, [&]<typename T>(T) {
    UpdateArrays<T> arrays{w.as<T>(), gradient.as<T>(), {}};
    for (size_t i = 0; i < std::min(state.size(), std::size(arrays.state)); ++i) arrays.state[i] = state[i].as<T>();
    ApplyAs(context, rule, args, arrays, w.elements());
  });
}

void SumSquares(Context& context, Tensor x, Tensor out) {
  const int64_t n = x.elements();
  if (n == 0) return;
  const int64_t blocks = std::min((n + kSquaresPerBlock - 1) / kSquaresPerBlock, kMaxSquareBlocks);
  VisitReal(x.type, [&]<typename T>(T) {
    SumOverBlocks(context, blocks, 1, out.as<double>(), [&](SumTarget target) {
      SumSquaresKernel<<<static_cast<unsigned>(blocks), kThreads, 0, context.stream>>>(x.as<T>(), n, target);
    });
  });
}

void CheckFinite(Context& context, Tensor x, Tensor flag) {
  LOCKSTEP_CUDA_CHECK(context, cudaMemsetAsync(flag.data, 0, sizeof(double), context.stream));
  if (IsFactor(x.type)) {
    const uint16_t exponent = x.type == DType::kBF16 ? 0x7f80 : 0x7c00;
    return ForEach(context, x.elements(), FiniteFactorOp{x.as<uint16_t>(), exponent, flag.as<double>()});
  }
  VisitReal(x.type, [&]<typename T>(T) { ForEach(context, x.elements(), FiniteOp<T>{x.as<T>(), flag.as<double>()}); });
}

}  // namespace lockstep::cuda
