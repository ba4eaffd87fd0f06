// SPDX-License-Identifier: Apache-2.0
// How much memory a rank will take, worked out before anything runs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/model/job_plan.h"

namespace lockstep {

// Bytes of one rank, on its device (a CPU rank's are the host's).
struct MemoryPlan {
  int64_t parameters = 0;
  // The sums that a rank holds at once, and on GPUs what comes from other ranks.
  int64_t gradients = 0;
  // Its state, averages and kept weights. CPU ranks on one host may share it; then each takes its part.
  int64_t optimizer = 0;
  // Outputs of layers, their gradients, and what forward leaves for backward. Row-major: a device that keeps images in
  // another layout pads rows and copies where layouts meet, which takes up to half as much again. On GPUs, images and
  // what lies between dense layers are of 16 bits where the job's products are.
  int64_t activations = 0;
  // What libraries ask for on a GPU: a reserve, not a measure.
  int64_t workspace = 0;
  // The samples where they are held in memory, and batches.
  int64_t data = 0;

  int64_t total() const { return parameters + gradients + optimizer + activations + workspace + data; }
};

// Of rank `rank` of `workers` (at most plan.logical_shards). `plan`: PlanJob's of a right spec, with a data set.
MemoryPlan PlanMemory(const lockstep::v1::JobSpec& spec, const JobPlan& plan, int rank, int workers);

// The parts by name, in order, the total not among them.
std::vector<std::pair<std::string, int64_t>> MemoryParts(const MemoryPlan& plan);
// "1.5 GiB", "13.2 KiB", "12 bytes".
std::string BytesText(int64_t bytes);
// "1.5 GiB in all: parameters 13.2 KiB, ...", for a sentence.
std::string MemoryText(const MemoryPlan& plan);

}  // namespace lockstep
