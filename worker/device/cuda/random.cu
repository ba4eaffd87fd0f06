// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/random.h"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/random.h"

namespace lockstep::cuda {

namespace {

template <typename T>
struct UniformOp {
  RngStream stream;
  T base, span;
  T* out;
  __device__ void operator()(int64_t i) const {
    out[i] = base + span * static_cast<T>(stream.Uniform(static_cast<uint64_t>(i)));
  }
};

template <typename T>
struct NormalOp {
  RngStream stream;
  NormalArgs args;
  T* out;
  __device__ void operator()(int64_t i) const {
    const double z = math::NormalOf(stream.Word(static_cast<uint64_t>(i)), args.truncated);
    out[i] = static_cast<T>(args.mean + args.stddev * z);
  }
};

// Index i is the i-th block of the generator, whose four words belong to neighbouring elements.
template <typename T>
struct DropoutOp {
  RngStream stream;
  // Of the step that runs, where it is recorded as `recorded_step`; else null.
  const StepCursor* cursor;
  int64_t recorded_step;
  math::DropoutMath<T> math;
  const T* x;
  // The stream's word of x[0].
  int64_t first;
  int64_t n;
  T* y;
  __device__ void operator()(int64_t i) const {
    const int64_t block = (first >> 2) + i;
    RngStream own = stream;
    if (cursor != nullptr) own.stream += static_cast<uint64_t>(cursor->step - recorded_step) << kStepShift;
    const PhiloxBlock words = own.Block(static_cast<uint64_t>(block));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t at = 4 * block + k - first;
      if (at >= 0 && at < n) y[at] = math(words.v[k], x[at]);
    }
  }
};

}  // namespace

void RandomUniform(Context& context, Tensor out, const RngStream& stream, double low, double high) {
  VisitReal(out.type, [&]<typename T>(T) {
    ForEach(context, out.elements(),
            UniformOp<T>{stream, static_cast<T>(low), static_cast<T>(high - low), out.as<T>()});
  });
}

void RandomNormal(Context& context, Tensor out, const RngStream& stream, const NormalArgs& args) {
  VisitReal(out.type, [&]<typename T>(T) { ForEach(context, out.elements(), NormalOp<T>{stream, args, out.as<T>()}); });
}

void Dropout(Context& context, Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) {
  const int64_t n = x.elements();
  if (n == 0) return;
  const int64_t first = first_row * (n / x.shape[0]);
  const int64_t blocks = ((first + n - 1) >> 2) - (first >> 2) + 1;
  VisitReal(x.type, [&]<typename T>(T) {
    const math::DropoutMath<T> math(static_cast<T>(rate));
    ForEach(
        context, blocks,
        DropoutOp<T>{stream, context.recording.cursor, context.recording.step, math, x.as<T>(), first, n, y.as<T>()});
  });
}

}  // namespace lockstep::cuda
