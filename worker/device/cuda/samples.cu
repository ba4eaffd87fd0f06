// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "common/permutation.h"
#include "worker/device/cuda/gathered.cuh"
#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/samples.h"

namespace lockstep::cuda {

namespace {

// Where the running step's samples are.
struct StepOrder {
  const StepCursor* cursor;
  // Of epoch 0.
  FeistelNetwork network;
  int64_t batch_size, steps_per_epoch;
  const int64_t* rows;

  // Of the sample at `place` of the step's batch.
  __device__ int64_t Row(int64_t place) const {
    const int64_t step = cursor->step, epoch = step / steps_per_epoch;
    FeistelNetwork own = network;
    own.epoch = static_cast<uint64_t>(epoch);
    const int64_t position = (step - epoch * steps_per_epoch) * batch_size + place;
    const int64_t sample = static_cast<int64_t>(own(static_cast<uint64_t>(position)));
    return rows == nullptr ? sample : rows[sample];
  }
};

template <typename S>
struct SampleRows {
  const S* from;
  int64_t width;
  float scale, offset;
  float* to;

  __device__ void Copy(int64_t row, int64_t place, int64_t begin, int64_t step) const {
    for (int64_t j = begin; j < width; j += step)
      to[place * width + j] = Gathered(from[row * width + j], scale, offset);
  }
};

struct LabelRows {
  const int32_t* from;
  int32_t* to;
  __device__ void Copy(int64_t row, int64_t place, int64_t begin, int64_t) const {
    if (begin == 0) to[place] = from[row];
  }
};

// A sample is a row of blocks' y; the blocks' x share its columns.
template <typename S, typename Targets>
__global__ void GatherSamplesKernel(StepOrder order, int64_t first, int64_t rows, SampleRows<S> samples,
                                    Targets targets) {
  __shared__ int64_t row;
  for (int64_t i = blockIdx.y; i < rows; i += gridDim.y) {
    if (threadIdx.x == 0) row = order.Row(first + i);
    __syncthreads();
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    samples.Copy(row, i, begin, step);
    targets.Copy(row, i, begin, step);
    __syncthreads();
  }
}

struct LookOp {
  const float* x;
  StepCursor* cursor;
  // Who finds one writes the same number as everybody else; a run begins with 0, and ends with the first one found.
  __device__ void operator()(int64_t i) const {
    if (!isfinite(x[i])) cursor->not_finite = 1;
  }
};

// Of one block.
__global__ void DecideKernel(StepCursor* cursor, double* sums, int64_t width, const double* extra, int64_t extra_width,
                             const double* flag, double* results) {
  const bool stops =
      cursor->halted != 0 || cursor->not_finite != 0 || !isfinite(sums[0]) || (flag != nullptr && *flag != 0);
  const int64_t place = cursor->done;
  // Before anybody changes what others still read.
  __syncthreads();
  if (stops) {
    if (threadIdx.x == 0) cursor->halted = 1;
    return;
  }
  double* const to = results + place * (width + extra_width);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    to[i] = sums[i];
    sums[i] = 0;
  }
  for (int64_t i = threadIdx.x; i < extra_width; i += blockDim.x) to[width + i] = extra[i];
  if (threadIdx.x == 0) {
    cursor->decided = place;
    cursor->done = place + 1;
    ++cursor->step;
  }
}

// A block copies this many numbers of a row, so that few have to find out which row it is.
constexpr int64_t kColumnsPerBlock = 4 * kThreads;

template <typename S, typename Targets>
void Gather(Context& context, const StepOrder& order, int64_t first, int64_t rows, const SampleRows<S>& samples,
            const Targets& targets) {
  const dim3 grid(static_cast<unsigned>((samples.width + kColumnsPerBlock - 1) / kColumnsPerBlock),
                  static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
  GatherSamplesKernel<<<grid, kThreads, 0, context.stream>>>(order, first, rows, samples, targets);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

template <typename S>
SampleRows<S> RowsOf(const Tensor& from, const GatherArgs& args, const Tensor& to) {
  return {from.as<S>(), to.elements() / to.shape[0], args.scale, args.offset, to.as<float>()};
}

template <typename S>
void GatherAs(Context& context, const StepOrder& order, const SampleTable& table, int64_t first, Tensor inputs,
              Tensor targets) {
  const int64_t rows = inputs.shape[0];
  const SampleRows<S> samples = RowsOf<S>(table.features, table.gather, inputs);
  if (targets.type == DType::kI32) {
    const LabelRows labels{table.targets.as<int32_t>(), targets.as<int32_t>()};
    Gather(context, order, first, rows, samples, labels);
  } else {
    Gather(context, order, first, rows, samples, RowsOf<float>(table.targets, GatherArgs{}, targets));
  }
}

}  // namespace

void GatherSamples(Context& context, const SampleTable& table, int64_t first, Tensor inputs, Tensor targets) {
  if (inputs.elements() == 0) return;
  const StepOrder order{context.recording.cursor,
                        FeistelNetwork::For(static_cast<uint64_t>(table.samples), table.seed, 0), table.batch_size,
                        table.steps_per_epoch, table.rows.as<int64_t>()};
  if (table.features.type == DType::kU8) {
    GatherAs<uint8_t>(context, order, table, first, inputs, targets);
  } else {
    GatherAs<float>(context, order, table, first, inputs, targets);
  }
}

void Decide(Context& context, Tensor sums, Tensor extra, Tensor flag, Tensor gradient, double* results) {
  if (flag.data == nullptr && gradient.data != context.recording.looked_through) {
    ForEach(context, gradient.elements(), LookOp{gradient.as<float>(), context.recording.cursor});
  }
  const int64_t extra_width = extra.data == nullptr ? 0 : extra.elements();
  DecideKernel<<<1, 32, 0, context.stream>>>(context.recording.cursor, sums.as<double>(), sums.elements(),
                                             extra.as<double>(), extra_width, flag.as<double>(), results);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

}  // namespace lockstep::cuda
