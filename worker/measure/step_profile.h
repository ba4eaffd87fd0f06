// SPDX-License-Identifier: Apache-2.0
// Where the time of a job's step goes, layer by layer, in one process and without a coordinator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "lockstep/v1/job.pb.h"
#include "worker/measure/layer_work.h"
#include "worker/measure/measured_device.h"
#include "worker/measure/step_timeline.h"

namespace lockstep {

// One layer's work in a step, all logical shards together. Times are medians over the steps, in seconds.
struct LayerTime {
  // "dense_1", and what was fused into it: "dense_1+relu".
  std::string name;
  double forward_seconds = 0;
  double backward_seconds = 0;
  // No operations: not counted.
  LayerWork work;
  LayerPlan plan;
  // See WorkOf.
  bool wants_input_gradient = false;

  double seconds() const { return forward_seconds + backward_seconds; }
  double flops() const { return work.forward_flops + work.backward_flops; }
  double bytes() const { return work.forward_bytes + work.backward_bytes; }
};

struct StepProfile {
  // What the bits depend on.
  std::string device;
  // In what products were computed: "fp32", as of ProductKind.
  std::string precision;
  int64_t steps = 0;
  int64_t batch = 0;
  int shards = 1;
  // Medians, for a whole step; `step_seconds` is all of it.
  double step_seconds = 0;
  // Until the samples are there: nothing else is done meanwhile.
  double data_seconds = 0;
  double loss_seconds = 0;
  // Over the shards, here on one rank: nothing is sent.
  double sum_seconds = 0;
  double update_seconds = 0;
  std::vector<LayerTime> layers;
  // What the device reached at its best in this run: the product of the job's precision, and moving memory.
  double peak_gflops = 0;
  double peak_gbytes = 0;
  // Bytes that the update and a sample have to move at least.
  double update_bytes = 0;
  double sample_bytes = 0;
  // The newest steps, as many as were asked for. PartTime::layer is a place in `layers`; times begin with the first.
  std::vector<StepTimes> traced;

  // Forward, loss, backward and update.
  double compute_seconds() const { return step_seconds - data_seconds - sum_seconds; }
  // Operations for each byte above which arithmetic is the limit.
  double ridge() const { return peak_gflops / peak_gbytes; }
};

struct ProfileOptions {
  // About so long.
  double seconds = 2;
  int traced_steps = 0;
};

// Trains from initial weights, on `on`. Each layer's calls are enqueued one by one, as in a job that records no graph,
// also where such a job computes them at once (DenseChain). The spec is one that was checked; `data_roots` as the
// coordinator's. UNIMPLEMENTED where a layer needs the whole batch at once; RESOURCE_EXHAUSTED where memory is short;
// INTERNAL where the device fails.
absl::StatusOr<StepProfile> ProfileStep(const lockstep::v1::JobSpec& spec, const std::vector<std::string>& data_roots,
                                        const MeasuredDevice& on, const ProfileOptions& options);

}  // namespace lockstep
