// SPDX-License-Identifier: Apache-2.0
// How fast a device multiplies and how fast it moves memory: what a step is measured against.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/device/device_timer.h"
#include "worker/measure/measured_device.h"

namespace lockstep {

// A precision in which a device multiplies: one other than kFloat on kF32 alone.
struct ProductKind {
  // "fp32", "fp64", "tf32", "bf16", "fp16".
  std::string name;
  DType type = DType::kF32;
  ProductPrecision precision = ProductPrecision::kFloat;
};
// Those that are worth a table, FP32 first. On a GPU, factors are rounded to BF16 and FP16 as in a step, which counts.
std::vector<ProductKind> ProductKinds(bool gpu);

// One operation: what it computes, what it has to move at least (each operand once), and how long it took.
struct OperationTime {
  std::string name;
  int64_t n = 0;
  double flops = 0;
  double bytes = 0;
  // Of one, the quickest of several runs: what others on the machine take away is not counted.
  double seconds = 0;

  double gflops() const { return flops / seconds / 1e9; }
  double gbytes() const { return bytes / seconds / 1e9; }
  // Operations for each byte.
  double intensity() const { return flops / bytes; }
};

// All are measured for about `seconds`, by the device's timer. RESOURCE_EXHAUSTED where memory is short, INTERNAL where
// the device fails.
//
// C = A B of n x n matrices.
absl::StatusOr<OperationTime> MeasureProduct(const MeasuredDevice& on, const ProductKind& kind, int64_t n,
                                             double seconds);

// y += a x of MeasuredSizes::vector numbers, which moves memory and computes next to nothing.
absl::StatusOr<OperationTime> MeasureMoving(const MeasuredDevice& on, double seconds);

// One operation of each BLAS level in FP32, of the sizes that are the device's: y += a x, y = x A, C = A B.
absl::StatusOr<std::vector<OperationTime>> MeasureBlasLevels(const MeasuredDevice& on, double seconds);

}  // namespace lockstep
