// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/products.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <utility>

#include "common/rng.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

using Clock = std::chrono::steady_clock;

double SecondsOf(Device& device, const std::function<void()>& work, int64_t times) {
  const auto began = Clock::now();
  for (int64_t i = 0; i < times; ++i) work();
  device.Synchronize();
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// Of one call: the least mean over runs, each long against the clock's resolution.
double Quickest(Device& device, const std::function<void()>& work, double seconds) {
  constexpr int kRuns = 7;
  work();
  int64_t times = 1;
  double took = SecondsOf(device, work, times);
  while (took < seconds / (2 * kRuns)) {
    times *= 2;
    took = SecondsOf(device, work, times);
  }
  double best = took / static_cast<double>(times);
  for (int run = 0; run < kRuns; ++run) {
    best = std::min(best, SecondsOf(device, work, times) / static_cast<double>(times));
  }
  return best;
}

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

absl::StatusOr<OperationTime> MeasureGemm(Device& device, const ProductKind& kind, int64_t m, int64_t n,
                                          double seconds) {
  Memory memory(device);
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor a, memory.Draw(Shape{m, n}, kind.type));
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor b, memory.Draw(Shape{n, n}, kind.type));
  LOCKSTEP_ASSIGN_OR_RETURN(const Tensor c, memory.Draw(Shape{m, n}, kind.type));
  const GemmArgs args{.precision = kind.precision};
  OperationTime time{.name = kind.name, .n = n};
  time.flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(n);
  time.bytes = static_cast<double>(SizeOf(kind.type)) * static_cast<double>(2 * m * n + n * n);
  time.seconds = Quickest(
      device, [&] { device.Gemm(args, a, b, {}, c); }, seconds);
  return time;
}

}  // namespace

std::vector<ProductKind> ProductKinds() {
  return {{"fp32", DType::kF32, ProductPrecision::kFloat},
          {"fp64", DType::kF64, ProductPrecision::kFloat},
          {"bf16", DType::kF32, ProductPrecision::kBf16}};
}

absl::StatusOr<OperationTime> MeasureProduct(Device& device, const ProductKind& kind, int64_t n, double seconds) {
  return MeasureGemm(device, kind, n, n, seconds);
}

absl::StatusOr<std::vector<OperationTime>> MeasureBlasLevels(Device& device, double seconds) {
  constexpr int64_t kVector = int64_t{1} << 24, kMatrix = 4096, kProduct = 1024;
  std::vector<OperationTime> levels;
  {
    // The update of SGD is axpy: w -= rate * gradient.
    Memory memory(device);
    LOCKSTEP_ASSIGN_OR_RETURN(const Tensor y, memory.Draw(Shape{kVector}, DType::kF32));
    LOCKSTEP_ASSIGN_OR_RETURN(const Tensor x, memory.Draw(Shape{kVector}, DType::kF32));
    OperationTime time{.name = "1: axpy", .n = kVector, .flops = 2.0 * kVector, .bytes = 12.0 * kVector};
    const UpdateArgs args{.step_size = 1e-6};
    time.seconds = Quickest(
        device, [&] { device.ApplyUpdate(UpdateRule::kSgd, args, y, x, {}); }, seconds);
    levels.push_back(std::move(time));
  }
  const ProductKind fp32 = ProductKinds().front();
  LOCKSTEP_ASSIGN_OR_RETURN(levels.emplace_back(), MeasureGemm(device, fp32, 1, kMatrix, seconds));
  levels.back().name = "2: gemv";
  LOCKSTEP_ASSIGN_OR_RETURN(levels.emplace_back(), MeasureGemm(device, fp32, kProduct, kProduct, seconds));
  levels.back().name = "3: gemm";
  return levels;
}

}  // namespace lockstep
