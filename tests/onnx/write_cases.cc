// SPDX-License-Identifier: Apache-2.0
// Writes every case to the folder given: <i>.onnx, and in cases.json its inputs and what the model makes of
// them.
#include <fstream>
#include <iostream>

#include "nlohmann/json.hpp"
#include "tests/conformance/tolerance.h"
#include "tests/onnx/cases.h"

namespace {

using lockstep::onnx_cases::Case;
using lockstep::onnx_cases::Subject;

nlohmann::json Write(const Case& c, const std::string& path) {
  const Subject subject(c);
  std::ofstream(path, std::ios::binary) << subject.Export().value();
  nlohmann::json json{{"kind", c.kind}, {"layers", c.layers}, {"file", path}, {"runs", nlohmann::json::array()}};
  // Both sides round.
  json["tolerance"] = 2 * lockstep::conformance::Tolerance(lockstep::DType::kF32, c.terms);
  json["input"] = std::vector<int64_t>(c.input.dims().begin(), c.input.dims().end());
  const lockstep::Shape& output = subject.plan().output;
  json["output"] = std::vector<int64_t>(output.dims().begin(), output.dims().end());
  for (const int64_t rows : {int64_t{1}, Subject::kMaxRows}) {
    const std::vector<float> inputs = subject.Inputs(rows);
    json["runs"].push_back({{"rows", rows}, {"inputs", inputs}, {"outputs", subject.Predict(inputs, rows)}});
  }
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write_onnx_cases FOLDER\n";
    return 2;
  }
  const std::string folder = argv[1];
  nlohmann::json all = nlohmann::json::array();
  for (const Case& c : lockstep::onnx_cases::Cases()) {
    all.push_back(Write(c, folder + "/" + std::to_string(all.size()) + ".onnx"));
  }
  std::ofstream(folder + "/cases.json") << all;
  return 0;
}
