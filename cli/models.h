// SPDX-License-Identifier: Apache-2.0
// Commands on trained models: export, eval, predict. A model is a file, a folder or a job.
#pragma once

#include <string>
#include <vector>

#include "cli/options.h"

namespace lockstep::cli {

struct ExportArguments {
  std::string model;
  // "onnx" or "safetensors".
  std::string format = "onnx";
  // Empty: model.<format> in this folder.
  std::string out;
};
int Export(const Options& options, const ExportArguments& arguments);

struct EvalArguments {
  std::string model;
  // A file with a dataset section, or a CSV file; empty: the job's own data set.
  std::string data;
  // Besides those of DataRoots.
  std::vector<std::string> data_roots;
  bool training_part = false;
  // See ParseDeviceName; empty: the CPU where the job asked for it, else AUTO.
  std::string device;
  // Of the CPU; 0: as the job had.
  int threads = 0;
};
int Eval(const Options& options, const EvalArguments& arguments);

struct PredictArguments {
  std::string model;
  std::string file;
  // Ends in .csv or .npy; empty: CSV to the output.
  std::string out;
  // Classes, the likeliest first.
  int top = 1;
  // The model's outputs as they are.
  bool raw = false;
  // As in EvalArguments.
  std::string device;
  int threads = 0;
};
int PredictFile(const Options& options, const PredictArguments& arguments);

}  // namespace lockstep::cli
