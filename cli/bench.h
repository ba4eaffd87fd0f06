// SPDX-License-Identifier: Apache-2.0
// `lockstep bench`: what this machine can do, and what a job makes of it. Tables for people, JSON for programs.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/options.h"
#include "worker/measure/products.h"
#include "worker/measure/step_profile.h"

namespace lockstep::cli {

struct BenchGemmArguments {
  // See ParseDeviceName.
  std::string device = "AUTO";
  // Sides of the matrices; empty: those that suit the device.
  std::vector<int64_t> sizes;
  int threads = 1;
  // For each point.
  double seconds = 0.2;
  // An SVG file; empty: none.
  std::string plot;
};
// Products of square matrices by size and precision, and one operation of each BLAS level.
int BenchGemm(const Options& options, const BenchGemmArguments& arguments);

struct BenchStepArguments {
  std::string file;
  std::vector<std::string> overrides;
  // See ParseDeviceName; empty: the job's.
  std::string device;
  // 0: the job's.
  int threads = 0;
  double seconds = 2;
  // An SVG file, and a file of trace events; empty: none.
  std::string plot;
  std::string trace;
};
// Where a step's time goes, layer by layer.
int BenchStep(const Options& options, const BenchStepArguments& arguments);

struct BenchAllreduceArguments {
  int ranks = 2;
  int64_t max_bytes = int64_t{64} << 20;
};
// The sum over ranks beside MPI's.
int BenchAllreduce(const Options& options, const BenchAllreduceArguments& arguments);

struct BenchStartArguments {
  std::string file;
  std::vector<std::string> overrides;
  int runs = 5;
};
// From launch to the end of the first step, with real processes.
int BenchStart(const Options& options, const BenchStartArguments& arguments);

// The rest is text alone, for the functions above and their tests.

struct GemmReport {
  std::string device;
  // In the order of the precisions.
  std::vector<OperationTime> products;
  std::vector<OperationTime> levels;

  // Of the products and levels.
  double peak_gflops() const;
};
std::string GemmTable(const GemmReport& report, int width, bool ascii);
std::string GemmJson(const GemmReport& report);
std::string GemmPlot(const GemmReport& report);

// "compute", "memory", or "-" where nothing is counted: what limits work of so many operations a byte.
std::string RooflineClass(double flops, double bytes, double ridge);
std::string StepTable(const StepProfile& profile, bool ascii);
std::string StepJson(const StepProfile& profile);
std::string StepPlot(const StepProfile& profile);
// The traced steps as a Chrome trace ("Trace Event Format", JSON): one complete event for each part of a step, in a row
// for data, computing and communication each, below the steps themselves.
std::string StepTrace(const StepProfile& profile);

// Seconds since the launch, by what had been reached then, in order.
using StartPhases = std::vector<std::pair<std::string, double>>;
// Medians over the runs, which all have the same phases.
StartPhases MedianStart(const std::vector<StartPhases>& runs);
std::string StartTable(const StartPhases& phases, size_t runs);
std::string StartJson(const StartPhases& phases, const std::vector<StartPhases>& runs);

// What lockstep-bench-allreduce printed, as a table; empty where it is not what it prints.
std::string AllreduceTable(const std::string& json);

}  // namespace lockstep::cli
