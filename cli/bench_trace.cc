// SPDX-License-Identifier: Apache-2.0
// Steps as a Chrome trace: the "Trace Event Format", which chrome://tracing and Perfetto open.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/bench.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

namespace {

using Json = nlohmann::ordered_json;

// All is one process, with a row for each of these.
constexpr int kProcess = 1;
enum Lane { kSteps = 1, kData = 2, kCompute = 3, kCommunication = 4 };

Lane LaneOf(StepPart part) {
  if (part == StepPart::kData) return kData;
  return part == StepPart::kGradientSum ? kCommunication : kCompute;
}

const char* CategoryOf(StepPart part) {
  switch (part) {
    case StepPart::kData:
      return "data";
    case StepPart::kForward:
      return "forward";
    case StepPart::kLoss:
      return "loss";
    case StepPart::kBackward:
      return "backward";
    case StepPart::kGradientSum:
      return "gradient sum";
    case StepPart::kUpdate:
      return "update";
  }
  return "";
}

// The format counts in microseconds. Whole nanoseconds keep neighbours from overlapping once they are rounded.
int64_t Nanoseconds(double seconds) { return std::llround(1e9 * seconds); }
double Micro(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; }

Json Event(const std::string& name, const char* category, Lane lane, double begin, double end, Json arguments) {
  const int64_t from = Nanoseconds(begin), to = Nanoseconds(end);
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"ts", Micro(from)},
          {"dur", Micro(to - from)},
          {"pid", kProcess},
          {"tid", lane},
          {"args", std::move(arguments)}};
}

// A word of the format about a process or a row.
Json Word(const char* name, int lane, Json arguments) {
  return {{"name", name}, {"ph", "M"}, {"pid", kProcess}, {"tid", lane}, {"args", std::move(arguments)}};
}

Json ShapesOf(const LayerPlan& plan, int64_t rows) {
  const auto batch = [&](const Shape& sample) {
    std::vector<int64_t> dims{rows};
    dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
    return Shape(dims).ToString();
  };
  Json shapes;
  for (const Shape& input : plan.inputs) shapes["inputs"].push_back(batch(input));
  shapes["output"] = batch(plan.output);
  for (const ParameterPlan& p : plan.parameters) shapes[p.name] = p.shape.ToString();
  return shapes;
}

void AddRate(const StepProfile& profile, double flops, double bytes, double seconds, Json* arguments) {
  if (flops > 0) {
    (*arguments)["flops"] = flops;
    if (seconds > 0) (*arguments)["gflops_per_second"] = flops / seconds / 1e9;
    if (seconds > 0) (*arguments)["share_of_peak"] = flops / seconds / 1e9 / profile.peak_gflops;
  }
  if (bytes > 0) {
    (*arguments)["bytes"] = bytes;
    if (seconds > 0) (*arguments)["gbytes_per_second"] = bytes / seconds / 1e9;
  }
}

Json PartEvent(const StepProfile& profile, const StepTimes& step, const PartTime& part) {
  std::string name = CategoryOf(part.part);
  Json arguments{{"step", step.step}, {"rows", part.rows}};
  if (part.part != StepPart::kUpdate) arguments["shard"] = part.shard;
  double flops = 0, bytes = 0;
  if (part.layer >= 0) {
    const LayerTime& layer = profile.layers[static_cast<size_t>(part.layer)];
    const LayerWork work = WorkOf(layer.plan, layer.wants_input_gradient, part.rows);
    const bool forward = part.part == StepPart::kForward;
    flops = forward ? work.forward_flops : work.backward_flops;
    bytes = forward ? work.forward_bytes : work.backward_bytes;
    name = absl::StrCat(layer.name, " ", name);
    arguments["shapes"] = ShapesOf(layer.plan, part.rows);
  } else if (part.part == StepPart::kData) {
    bytes = profile.sample_bytes * static_cast<double>(part.rows);
  } else if (part.part == StepPart::kUpdate) {
    bytes = profile.update_bytes;
  }
  AddRate(profile, flops, bytes, part.seconds(), &arguments);
  return Event(name, CategoryOf(part.part), LaneOf(part.part), part.begin, part.end, std::move(arguments));
}

}  // namespace

std::string StepTrace(const StepProfile& profile) {
  std::vector<Json> events{Word("process_name", 0, {{"name", profile.device}})};
  for (const auto& [lane, name] :
       {std::pair(kSteps, "steps"), {kData, "data"}, {kCompute, "compute"}, {kCommunication, "communication"}}) {
    events.push_back(Word("thread_name", lane, {{"name", name}}));
    events.push_back(Word("thread_sort_index", lane, {{"sort_index", static_cast<int>(lane)}}));
  }
  for (const StepTimes& step : profile.traced) {
    events.push_back(Event(absl::StrCat("step ", step.step), "step", kSteps, step.begin, step.end,
                           {{"step", step.step}, {"shards", profile.shards}}));
    for (const PartTime& part : step.parts) events.push_back(PartEvent(profile, step, part));
  }
  const Json about{{"device", profile.device},
                   {"precision", profile.precision},
                   {"batch", profile.batch},
                   {"peak_gflops", profile.peak_gflops},
                   {"peak_gbytes", profile.peak_gbytes},
                   {"counted", "flops: multiplications and additions of products; bytes: each operand once"}};
  // A line for each event.
  const auto line = [](std::string* out, const Json& event) { absl::StrAppend(out, event.dump()); };
  return absl::StrCat("{\"displayTimeUnit\": \"ns\",\n\"otherData\": ", about.dump(), ",\n\"traceEvents\": [\n",
                      absl::StrJoin(events, ",\n", line), "\n]}\n");
}

}  // namespace lockstep::cli
