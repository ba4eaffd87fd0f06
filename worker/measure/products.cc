// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/products.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "common/rng.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

// Of one call: the least mean over runs, each long against the clock's resolution.
class Stopwatch {
 public:
  explicit Stopwatch(const MeasuredDevice& on) : on_(on) {}

  absl::StatusOr<double> Quickest(const std::function<void()>& work, double seconds) {
    constexpr int kRuns = 7;
    LOCKSTEP_ASSIGN_OR_RETURN(timer_, on_.make_timer(2));
    work();
    int64_t times = 1;
    LOCKSTEP_ASSIGN_OR_RETURN(double took, SecondsOf(work, times));
    while (took < seconds / (2 * kRuns)) {
      times *= 2;
      LOCKSTEP_ASSIGN_OR_RETURN(took, SecondsOf(work, times));
    }
    for (int run = 0; run < kRuns; ++run) {
      LOCKSTEP_ASSIGN_OR_RETURN(const double again, SecondsOf(work, times));
      took = std::min(took, again);
    }
    return took / static_cast<double>(times);
  }

 private:
  absl::StatusOr<double> SecondsOf(const std::function<void()>& work, int64_t times) {
    timer_->Mark();
    for (int64_t i = 0; i < times; ++i) work();
    timer_->Mark();
    LOCKSTEP_ASSIGN_OR_RETURN(const std::span<const double> marks, timer_->Read());
    LOCKSTEP_RETURN_IF_ERROR(on_.device->status());
    return marks[1] - marks[0];
  }

  const MeasuredDevice& on_;
  std::unique_ptr<DeviceTimer> timer_;
};

// Tensors that live as long as this.
class Memory {
 public:
  explicit Memory(Device& device) : device_(device) {}

  // Uniform in [-1, 1).
  absl::StatusOr<Tensor> Draw(const Shape& shape, DType type) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                              device_.Allocate(static_cast<size_t>(shape.elements()) * SizeOf(type)));
    const Tensor tensor{buffer->data(), shape, type};
    buffers_.push_back(std::move(buffer));
    device_.RandomUniform(tensor, {.seed = buffers_.size()}, -1.0, 1.0);
    return tensor;
  }

 private:
  Device& device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

absl::StatusOr<OperationTime> MeasureGemm(const MeasuredDevice& on, const ProductKind& kind, int64_t m, int64_t n,
                                          double seconds) {
  Memory memory(*on.device);
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor a, memory.Draw(Shape{m, n}, kind.type));
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor b, memory.Draw(Shape{n, n}, kind.type));
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor c, memory.Draw(Shape{m, n}, kind.type));
  const GemmArgs args{.precision = kind.precision};
  OperationTime time{.name = kind.name, .n = n};
  time.flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(n);
  time.bytes = static_cast<double>(SizeOf(kind.type)) * static_cast<double>(2 * m * n + n * n);
  LOCKSTEP_ASSIGN_OR_RETURN(time.seconds, Stopwatch(on).Quickest([&] { on.device->Gemm(args, a, b, {}, c); }, seconds));
  return time;
}

}  // namespace

std::vector<ProductKind> ProductKinds(bool gpu) {
  const ProductKind fp32{"fp32", DType::kF32, ProductPrecision::kFloat};
  const ProductKind bf16{"bf16", DType::kF32, ProductPrecision::kBf16};
  if (!gpu) return {fp32, {"fp64", DType::kF64, ProductPrecision::kFloat}, bf16};
  return {
      fp32, {"tf32", DType::kF32, ProductPrecision::kTf32}, bf16, {"fp16", DType::kF32, ProductPrecision::kFloat16}};
}

absl::StatusOr<OperationTime> MeasureProduct(const MeasuredDevice& on, const ProductKind& kind, int64_t n,
                                             double seconds) {
  return MeasureGemm(on, kind, n, n, seconds);
}

absl::StatusOr<OperationTime> MeasureMoving(const MeasuredDevice& on, double seconds) {
  // The update of SGD is axpy: w -= rate * gradient.
  Memory memory(*on.device);
  const int64_t n = on.sizes.vector;
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor y, memory.Draw(Shape{n}, DType::kF32));
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor x, memory.Draw(Shape{n}, DType::kF32));
  const auto numbers = static_cast<double>(n);
  OperationTime time{.name = "1: axpy", .n = n, .flops = 2 * numbers, .bytes = 12 * numbers};
  const UpdateArgs args{.step_size = 1e-6};
  LOCKSTEP_ASSIGN_OR_RETURN(
      time.seconds, Stopwatch(on).Quickest([&] { on.device->ApplyUpdate(UpdateRule::kSgd, args, y, x, {}); }, seconds));
  return time;
}

absl::StatusOr<std::vector<OperationTime>> MeasureBlasLevels(const MeasuredDevice& on, double seconds) {
  std::vector<OperationTime> levels;
  LOCKSTEP_ASSIGN_OR_RETURN(levels.emplace_back(), MeasureMoving(on, seconds));
  const ProductKind fp32 = ProductKinds(on.gpu).front();
  LOCKSTEP_ASSIGN_OR_RETURN(levels.emplace_back(), MeasureGemm(on, fp32, 1, on.sizes.matrix, seconds));
  levels.back().name = "2: gemv";
  LOCKSTEP_ASSIGN_OR_RETURN(levels.emplace_back(), MeasureGemm(on, fp32, on.sizes.product, on.sizes.product, seconds));
  levels.back().name = "3: gemm";
  return levels;
}

}  // namespace lockstep
