// SPDX-License-Identifier: Apache-2.0
// Products of BF16 factors through oneDNN. Primitives are made once for each shape and kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuMatmul {
 public:
  CpuMatmul(const KernelChoice& kernels, int threads);
  ~CpuMatmul();
  // True: the machine has AMX, and these kernels may use it.
  bool has_matrix_units() const { return has_matrix_units_; }
  // out = op(a) op(b), factors rounded to BF16; none of the sizes is 0. Needs AVX-512.
  void Run(const GemmArgs& args, Tensor a, Tensor b, Tensor out);

 private:
  class Plan;
  struct Key {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr): the 0 is the compiler's
  };

  const KernelChoice kernels_;
  const int threads_;
  const bool has_matrix_units_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  // The rounded factors.
  std::vector<uint16_t> a_, b_;
};

}  // namespace lockstep::cpu
