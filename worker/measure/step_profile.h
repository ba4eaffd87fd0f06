// SPDX-License-Identifier: Apache-2.0
// Where the time of a job's step goes, layer by layer, in one process and without a coordinator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "worker/measure/products.h"

namespace lockstep {

// One layer's work in a step, all logical shards together. Times are medians over the steps, in seconds.
struct LayerTime {
  // "dense_1", and what was fused into it: "dense_1+relu".
  std::string name;
  double forward_seconds = 0;
  double backward_seconds = 0;
  // Multiplications and additions, and bytes that have to be moved at least: each operand once. 0: not counted.
  double forward_flops = 0;
  double backward_flops = 0;
  double bytes = 0;

  double seconds() const { return forward_seconds + backward_seconds; }
  double flops() const { return forward_flops + backward_flops; }
};

struct StepProfile {
  // What the bits depend on.
  std::string device;
  int64_t steps = 0;
  int64_t batch = 0;
  int shards = 1;
  // Medians, for a whole step; `step_seconds` is all of it.
  double step_seconds = 0;
  double data_seconds = 0;
  double loss_seconds = 0;
  double update_seconds = 0;
  std::vector<LayerTime> layers;
  // What the device reached at its best in this run: the product of the job's precision, and moving memory.
  double peak_gflops = 0;
  double peak_gbytes = 0;

  // Operations for each byte above which arithmetic is the limit.
  double ridge() const { return peak_gflops / peak_gbytes; }
};

// Trains for about `seconds` from initial weights. The spec is one that was checked; `data_roots` as the
// coordinator's. `threads` 0: the job's. UNIMPLEMENTED where a layer needs the whole batch at once.
absl::StatusOr<StepProfile> ProfileStep(const lockstep::v1::JobSpec& spec, const std::vector<std::string>& data_roots,
                                        int threads, double seconds);

}  // namespace lockstep
