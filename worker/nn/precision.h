// SPDX-License-Identifier: Apache-2.0
// From a job's precision to that of a device's products.
#pragma once

#include "lockstep/v1/job.pb.h"
#include "worker/device/device.h"

namespace lockstep {

inline ProductPrecision ProductPrecisionOf(lockstep::v1::Precision precision) {
  switch (precision) {
    case v1::PRECISION_MIXED_BFLOAT16:
      return ProductPrecision::kBf16;
    case v1::PRECISION_TF32:
      return ProductPrecision::kTf32;
    case v1::PRECISION_MIXED_FLOAT16:
      return ProductPrecision::kFloat16;
    default:
      return ProductPrecision::kFloat;
  }
}

}  // namespace lockstep
