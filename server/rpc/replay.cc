// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/replay.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"
#include "server/rpc/checkpoint_list.h"
#include "server/rpc/convert.h"

namespace lockstep::rpc {
namespace {

namespace v1 = lockstep::v1;
using google::protobuf::util::MessageDifferencer;

// What of a TrainingSpec makes the bits. How often checkpoints are saved does not.
v1::TrainingSpec WhatCounts(const v1::JobSpec& spec, int logical_shards) {
  v1::TrainingSpec training = spec.training();
  training.clear_checkpoint_interval_steps();
  training.clear_keep_checkpoints();
  if (training.logical_shards() == 0) training.set_logical_shards(logical_shards);
  return training;
}

// The bits depend on all of this, so none of it may differ.
void CompareSpecs(const v1::JobSpec& spec, const v1::JobSpec& other, int logical_shards, Violations& violations) {
  const std::string text =
      absl::StrCat("differs from that of job ", spec.replay().job_id(), ": a replay does the same steps again");
  const auto compare = [&](const char* field, const google::protobuf::Message& a, const google::protobuf::Message& b) {
    if (!MessageDifferencer::Equals(a, b)) violations.Add(field, text);
  };
  compare("dataset", spec.dataset(), other.dataset());
  compare("model", spec.model(), other.model());
  compare("loss", spec.loss(), other.loss());
  compare("optimizer", spec.optimizer(), other.optimizer());
  compare("schedule", spec.schedule(), other.schedule());
  compare("training", WhatCounts(spec, logical_shards), WhatCounts(other, logical_shards));
  if (spec.seed() != other.seed()) violations.Add("seed", text);
  // A checkpoint holds their sums.
  const bool same_metrics =
      std::equal(spec.metrics().begin(), spec.metrics().end(), other.metrics().begin(), other.metrics().end(),
                 [](const v1::MetricSpec& a, const v1::MetricSpec& b) { return MessageDifferencer::Equals(a, b); });
  if (!same_metrics) violations.Add("metrics", text);
}

void FindStart(const store::Store& store, const store::JobRow& other, Submission& submission, Violations& violations) {
  const int64_t from = submission.spec.replay().from_step();
  if (from == 0 && other.shape.first_step == 0) return;
  const auto checkpoints = PresentCheckpoints(store, other.job_id);
  if (!checkpoints.ok()) {
    violations.Add("replay.from_step", std::string(checkpoints.status().message()));
    return;
  }
  // Where a step was saved by several generations, the newest is last.
  const auto found = std::find_if(checkpoints->rbegin(), checkpoints->rend(),
                                  [&](const store::CheckpointRow& row) { return row.step == from && !row.final; });
  if (found == checkpoints->rend()) {
    violations.Add("replay.from_step",
                   absl::StrCat("job ", other.job_id, " has no checkpoint at step ", from, "; it can start from ",
                                StepsToStartFrom(*checkpoints, other.shape.first_step)));
    return;
  }
  submission.start_checkpoint = found->path;
}

}  // namespace

void ResolveReplay(const store::Store& store, Submission& submission, Violations& violations) {
  if (!submission.spec.has_replay()) return;
  const v1::ReplaySpec& replay = submission.spec.replay();
  if (replay.job_id().empty()) {
    violations.Add("replay.job_id", "is missing: name the job whose steps are done again");
    return;
  }
  const auto row = store.GetJob(replay.job_id());
  if (!row.ok()) {
    violations.Add("replay.job_id", std::string(row.status().message()));
    return;
  }
  const auto other = ToProto(*row);
  if (!other.ok()) {
    violations.Add("replay.job_id", std::string(other.status().message()));
    return;
  }
  core::JobShape& shape = submission.shape;
  shape.logical_shards = row->shape.logical_shards;
  shape.steps_per_epoch = row->shape.steps_per_epoch;
  shape.first_step = replay.from_step();
  const int64_t steps = row->stopped_at > 0 ? row->stopped_at : row->shape.total_steps;
  shape.total_steps = replay.until_step() == 0 ? steps : replay.until_step();
  if (shape.total_steps <= shape.first_step || shape.total_steps > steps) {
    violations.Add("replay.until_step",
                   absl::StrCat("is ", replay.until_step(), "; must be greater than from_step (", shape.first_step,
                                ") and at most ", steps, ", the steps of job ", row->job_id, ", or 0 for all of them"));
  }
  if (shape.workers > shape.logical_shards) {
    violations.Add("resources.workers", absl::StrCat("is ", shape.workers, ", more than the ", shape.logical_shards,
                                                     " logical shards of job ", row->job_id));
  }
  CompareSpecs(submission.spec, other->spec(), shape.logical_shards, violations);
  FindStart(store, *row, submission, violations);
}

}  // namespace lockstep::rpc
