// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/losses.h"
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/cuda/softmax_row.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"
#include "worker/device/math/losses.h"

namespace lockstep::cuda {

namespace {

// A warp for a row; 64 rows for a block.
constexpr int kRowThreads = 1024;
constexpr int kRowsOfBlock = 64;
// Outputs of a block where rows do not matter.
constexpr int64_t kElementsOfBlock = 2048;

template <typename T>
struct ProbabilityRow {
  CrossEntropyProblem<T> p;

  __device__ double operator()(int64_t row) const {
    const T* x = p.x + row * p.n;
    const int64_t label = p.Label(row);
    const double weight = p.Weight(label);
    const double factor = weight == weight ? p.scale * weight : p.scale;
    double loss = 0;
    for (int64_t j = threadIdx.x % kWarp; j < p.n; j += kWarp) {
      const double q = p.Target(row, label, j);
      const double clamped = math::Clamp(static_cast<double>(x[j]), math::kProbabilityFloor, 1.0);
      if (q != 0) loss -= q * ::log(clamped);
      if (p.d != nullptr) p.d[row * p.n + j] = q != 0 ? static_cast<T>(-q * factor / clamped) : T(0);
    }
    return weight * WarpSum(loss);
  }
};

template <typename Row>
__global__ void __launch_bounds__(kRowThreads) RowLossKernel(Row row_loss, int64_t rows, SumTarget target) {
  __shared__ double losses[kRowsOfBlock];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock;
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < kRowsOfBlock; i += kRowThreads / kWarp) {
    const double loss = first + i < rows ? row_loss(first + i) : 0.0;
    if (threadIdx.x % kWarp == 0) losses[i] = loss;
  }
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  static_assert(kRowsOfBlock == 2 * kWarp);
  const double sum = WarpSum(losses[threadIdx.x] + losses[threadIdx.x + kWarp]);
  if (threadIdx.x == 0) target.Leave(blockIdx.x, 1, 0, sum);
}

template <typename Row>
void SumRowLosses(Context& context, const Row& row, const Tensor& sum) {
  const int64_t rows = row.p.rows, blocks = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
  SumOverBlocks(context, blocks, 1, sum.as<double>(), [&](SumTarget target) {
    RowLossKernel<<<static_cast<unsigned>(blocks), kRowThreads, 0, context.stream>>>(row, rows, target);
  });
}

// Outputs one by one: a row's loss is their sum by the divisor, and so is that of all rows.
template <typename T, typename Math>
struct ElementLossProblem {
  Math math;
  ElementLossKind kind;
  int64_t elements;
  double divisor, scale;
  const T* predictions;
  const int32_t* labels;
  const T* targets;
  T* d;

  // A class index as a target, for one output.
  __device__ double Target(int64_t i) const {
    if (labels == nullptr) return static_cast<double>(targets[i]);
    if (labels[i] != 0 && labels[i] != 1) return UnknownLabel();
    return kind == ElementLossKind::kHinge ? 2.0 * labels[i] - 1.0 : static_cast<double>(labels[i]);
  }
};

template <typename Problem>
__global__ void __launch_bounds__(kThreads) ElementLossKernel(Problem p, SumTarget target) {
  __shared__ double shared[kThreads];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kElementsOfBlock;
  const int64_t end = first + kElementsOfBlock < p.elements ? first + kElementsOfBlock : p.elements;
  double loss = 0;
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads) {
    const double t = p.Target(i), y = static_cast<double>(p.predictions[i]);
    loss += p.math.Value(y, t);
    if (p.d != nullptr) {
      p.d[i] = static_cast<std::remove_pointer_t<decltype(p.d)>>(p.math.Gradient(y, t) / p.divisor * p.scale);
    }
  }
  loss = BlockSum<kThreads>(loss, shared);
  if (threadIdx.x == 0) target.Leave(blockIdx.x, 1, 0, loss / p.divisor);
}

}  // namespace

void SoftmaxCrossEntropy(Context& context, const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale,
                         Tensor dlogits, Tensor sum) {
  if (logits.elements() == 0) return;
  VisitReal(logits.type, [&]<typename T>(T) {
    SumRowLosses(context, SoftmaxRow<T>{CrossEntropyProblem<T>(args, logits, targets, scale, dlogits)}, sum);
  });
}

void CrossEntropy(Context& context, const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                  Tensor dprobabilities, Tensor sum) {
  if (probabilities.elements() == 0) return;
  VisitReal(probabilities.type, [&]<typename T>(T) {
    SumRowLosses(context,
                 ProbabilityRow<T>{CrossEntropyProblem<T>(args, probabilities, targets, scale, dprobabilities)}, sum);
  });
}

void ElementLoss(Context& context, const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale,
                 Tensor dpredictions, Tensor sum) {
  const int64_t elements = predictions.elements();
  if (elements == 0) return;
  const double n = static_cast<double>(elements / predictions.shape[0]);
  const bool labels = targets.type == DType::kI32;
  const int64_t blocks = (elements + kElementsOfBlock - 1) / kElementsOfBlock;
  VisitReal(predictions.type, [&]<typename T>(T) {
    VisitElementLoss(args, [&](const auto& math) {
      const ElementLossProblem<T, std::decay_t<decltype(math)>> problem{
          .math = math,
          .kind = args.kind,
          .elements = elements,
          .divisor = args.mean ? n : 1.0,
          .scale = scale,
          .predictions = predictions.as<T>(),
          .labels = labels ? targets.as<int32_t>() : nullptr,
          .targets = labels ? nullptr : targets.as<T>(),
          .d = dpredictions.as<T>()};
      SumOverBlocks(context, blocks, 1, sum.as<double>(), [&](SumTarget target) {
        ElementLossKernel<<<static_cast<unsigned>(blocks), kThreads, 0, context.stream>>>(problem, target);
      });
    });
  });
}

}  // namespace lockstep::cuda
