// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

template <typename T, typename Math>
struct ForwardOp {
  Math math;
  const T* x;
  T* y;
  template <int Width>
  __device__ void Run(int64_t i) const {
    Pack<T, Width> v = Pack<T, Width>::Load(x + i);
    for (int k = 0; k < Width; ++k) v.at[k] = math.Forward(v.at[k]);
    v.Store(y + i);
  }
};

// x: what the derivative is taken from, where it is not y.
template <typename T, typename Math>
struct BackwardOp {
  Math math;
  const T* x;
  const T* y;
  const T* dy;
  T* dx;
  template <int Width>
  __device__ void Run(int64_t i) const {
    using P = Pack<T, Width>;
    const P from = P::Load(x + i), to = P::Load(y + i);
    P d = P::Load(dy + i);
    for (int k = 0; k < Width; ++k) d.at[k] = d.at[k] * math.Gradient(from.at[k], to.at[k]);
    d.Store(dx + i);
  }
};

template <typename T, typename Math>
__global__ void BiasKernel(Math math, const T* __restrict__ bias, int64_t rows, int64_t n, T* __restrict__ out) {
  for (int64_t i = blockIdx.y; i < rows; i += gridDim.y) {
    for (int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; j < n;
         j += static_cast<int64_t>(gridDim.x) * blockDim.x) {
      out[i * n + j] = math.Forward(out[i * n + j] + bias[j]);
    }
  }
}

}  // namespace

void ActivationForward(Context& context, const ActivationArgs& args, Tensor x, Tensor y) {
  if (args.linear()) {
    if (x.data != y.data) Copy(context, x, y);
    return;
  }
  const int64_t n = y.elements();
  VisitStored(y.type, [&]<typename T>(T) {
    VisitActivation(args, [&](auto math) {
      ForPacks<T>(context, n, n, {x.data, y.data}, ForwardOp<T, decltype(math)>{math, x.as<T>(), y.as<T>()});
    });
  });
}

void ActivationBackward(Context& context, const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) {
  const Tensor input = GradientNeedsInput(args.kind) ? x : y;
  const int64_t n = y.elements();
  VisitStored(y.type, [&]<typename T>(T) {
    VisitActivation(args, [&](auto math) {
      ForPacks<T>(context, n, n, {input.data, y.data, dy.data, dx.data},
                  BackwardOp<T, decltype(math)>{math, input.as<T>(), y.as<T>(), dy.as<T>(), dx.as<T>()});
    });
  });
}

void BiasActivation(Context& context, const ActivationArgs& args, Tensor bias, Tensor out) {
  if (bias.data == nullptr) return ActivationForward(context, args, out, out);
  if (out.elements() == 0) return;
  const int64_t n = bias.elements(), rows = out.elements() / n;
  const dim3 grid(BlocksFor(context, n), static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
  VisitReal(out.type, [&]<typename T>(T) {
    VisitActivation(args, [&](auto math) {
      BiasKernel<<<grid, kThreads, 0, context.stream>>>(math, bias.as<T>(), rows, n, out.as<T>());
    });
  });
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

}  // namespace lockstep::cuda
