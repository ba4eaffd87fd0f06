// SPDX-License-Identifier: Apache-2.0
// The main of tests that need a GPU. Where there is none it says why and exits with 77: neither passed nor failed.
#include <cstdio>

#include "gtest/gtest.h"
#include "worker/device/device_loader.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const lockstep::GpuList list = lockstep::ListGpus();
  if (list.gpus.empty()) {
    std::printf("no GPU: %s\n", list.none_because.c_str());
    return 77;
  }
  return RUN_ALL_TESTS();
}
