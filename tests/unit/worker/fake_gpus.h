// SPDX-License-Identifier: Apache-2.0
// GPUs that a test says there are.
#pragma once

#include "absl/strings/str_cat.h"
#include "worker/device/named_device.h"

namespace lockstep {

// `count` GPUs, whose devices are CPU devices of 10 + index threads, so that one can tell them apart.
inline GpuSource FakeGpus(int count) {
  return {[count] {
            GpuList list;
            for (int i = 0; i < count; ++i) {
              list.gpus.push_back({.index = i, .name = "GPU", .uuid = absl::StrCat("GPU-", i)});
            }
            if (count == 0) list.none_because = "the machine is a toaster";
            return list;
          },
          [](int index) -> absl::StatusOr<std::unique_ptr<Device>> { return MakeCpuDevice(10 + index); }};
}

}  // namespace lockstep
