// SPDX-License-Identifier: Apache-2.0
// Numbers, tables, the progress line and the loss curve: pure text.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lockstep/v1/events.pb.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep::cli {

// "12.3k", "1.23M", "1.23G", "1.23T".
std::string Count(double value);
// "0:07", "1:02:03", "--:--" where unknown.
std::string Duration(double seconds);
// "running".
std::string StateName(lockstep::v1::JobState state);
// Worker processes asked for, also of a coordinator that does not say.
int WorkersOf(const lockstep::v1::Job& job);
// "12s", "3m", "5h", "2d".
std::string Age(double seconds);

// Columns padded to their widest cell; the first row is the header.
std::string Table(const std::vector<std::vector<std::string>>& rows);

struct ProgressState {
  int64_t step = 0;
  int64_t total_steps = 0;
  int64_t total_epochs = 0;
  double loss = 0;
  bool classification = false;
  double accuracy = 0;
  double samples_per_second = 0;
  double steps_per_second = 0;
  // Shown where it is worth a thought.
  double data_wait_share = 0;
};
// "epoch 3/5 [=====>    ] step 412/1875 loss 0.0812 acc 0.975 12.3k samples/s 0:07 left", cut to
// `width` columns.
std::string ProgressLine(const ProgressState& state, int width);

// A curve of (step, loss) drawn with braille dots (or * in ASCII), with both axes labelled.
std::string LossCurve(const std::vector<std::pair<double, double>>& points, int width, int height, bool ascii);

// "running: all 2 workers are connected". What led to another launch, or to the end, is told first; several
// causes get a line each.
std::string StateLine(const lockstep::v1::StateChanged& change);

// One epoch on one line.
std::string EpochLine(const lockstep::v1::EpochCompleted& epoch);
// A line for each class: how many of it were taken for which. Empty where the metric has no matrix.
std::string ConfusionTable(const lockstep::v1::MetricValue& metric);

}  // namespace lockstep::cli
