// SPDX-License-Identifier: Apache-2.0
// How fast a device multiplies and how fast it moves memory: what a step is measured against.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device.h"

namespace lockstep {

// kFloat and kBf16 on kF32, or kFloat on kF64.
struct ProductKind {
  // "fp32", "fp64", "bf16".
  std::string name;
  DType type = DType::kF32;
  ProductPrecision precision = ProductPrecision::kFloat;
};
// Those that devices have, in the order of the table.
std::vector<ProductKind> ProductKinds();

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

// C = A B of n x n matrices; measured for about `seconds`. RESOURCE_EXHAUSTED where memory is short.
absl::StatusOr<OperationTime> MeasureProduct(Device& device, const ProductKind& kind, int64_t n, double seconds);

// One operation of each BLAS level in FP32: y += a x of 2^24 numbers, y = x A of 4096 x 4096, C = A B of 1024 x 1024.
absl::StatusOr<std::vector<OperationTime>> MeasureBlasLevels(Device& device, double seconds);

}  // namespace lockstep
