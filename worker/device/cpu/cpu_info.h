// SPDX-License-Identifier: Apache-2.0
// The processor that this process runs on.
#pragma once

#include <string>

namespace lockstep {

struct CpuInfo {
  // "AMD EPYC 9B14", or "unknown".
  std::string model;
  // Of the kernels that are used: "avx512", "avx2", "portable".
  std::string instruction_set;
  // That this process may use.
  int threads = 1;
};
CpuInfo HostCpu();

}  // namespace lockstep
