// SPDX-License-Identifier: Apache-2.0
// Job files, and the checks of what they say.
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/model/job_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::Violations violations;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const lockstep::v1::JobSpec spec = lockstep::ParseJobFile(text, "f", violations);
  lockstep::PlanJob(spec, nullptr, violations);
  const lockstep::DatasetInfo info{.sample = lockstep::Shape{3, 8, 8}, .train_samples = 100, .test_samples = 10};
  lockstep::PlanJob(spec, &info, violations);
  return 0;
}
