// SPDX-License-Identifier: Apache-2.0
#include "worker/train/out_of_memory.h"

#include "absl/strings/str_cat.h"
#include "common/model/memory_plan.h"
#include "worker/train/failure.h"

namespace lockstep {

absl::Status ExplainMemory(absl::Status status, const v1::JobSpec& spec, const JobPlan& plan, int rank, int workers) {
  if (!absl::IsResourceExhausted(status) || IsResumeUnusable(status)) return status;
  return Permanent(absl::ResourceExhaustedError(absl::StrCat(
      "RESOURCE_EXHAUSTED: ", status.message(), "; the rank wants ", MemoryText(PlanMemory(spec, plan, rank, workers)),
      ". Use more workers, a smaller training.batch_size or a smaller model; lockstep plan says beforehand what a job "
      "takes")));
}

}  // namespace lockstep
