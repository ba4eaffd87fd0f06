// SPDX-License-Identifier: Apache-2.0
// Every kind of layer against PyTorch (make_layers.py wrote layers.json).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>

#include "nlohmann/json.hpp"
#include "tests/conformance/layer_bench.h"
#include "tests/golden/draws.h"

namespace lockstep::conformance {
namespace {

using Json = nlohmann::json;

// Streams of draws, as in make_layers.py.
constexpr uint32_t kInputs = 10, kParameters = 20, kOutputGradient = 5;

const Json& Golden() {
  static const Json golden = [] {
    std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/layers.json");
    return Json::parse(file);
  }();
  return golden;
}

void Fill(const Tensor& t, uint32_t stream, double scale = 1.0) {
  for (int64_t i = 0; i < t.elements(); ++i) Arrays::Set(t, i, scale * Draw(stream, static_cast<uint32_t>(i)));
}

std::string KindOf(const Json& fixture) {
  const std::string layer = fixture["layer"];
  return layer.substr(0, layer.find(' '));
}

TEST(GoldenLayers, AgreeWithPyTorch) {
  for (const Json& fixture : Golden()["cases"]) {
    SCOPED_TRACE(fixture["name"].get<std::string>());
    const LayerRow row{.kind = KindOf(fixture),
                       .variant = "golden",
                       .layer = fixture["layer"],
                       .before = fixture["before"],
                       .input = Shape(fixture["input"].get<std::vector<int64_t>>()),
                       .output = {},
                       .reduction = fixture["reduction"],
                       .reach = fixture["reach"]};
    Subject s(row, DType::kF32, Devices()[0], Golden()["rows"]);
    const Json& shapes = fixture["parameters"];
    ASSERT_EQ(s.parameters.size(), shapes.size());
    for (size_t i = 0; i < s.x.size(); ++i) Fill(s.x[i], kInputs + static_cast<uint32_t>(i), row.reach);
    for (size_t i = 0; i < s.parameters.size(); ++i) {
      EXPECT_EQ(s.plan.parameters[i].shape, Shape(shapes[i].get<std::vector<int64_t>>()));
      Fill(s.parameters[i], kParameters + static_cast<uint32_t>(i));
      if (!s.plan.parameters[i].name.ends_with("moving_variance")) continue;
      for (int64_t j = 0; j < s.parameters[i].elements(); ++j) {
        Arrays::Set(s.parameters[i], j, std::abs(Arrays::Get(s.parameters[i], j)));
      }
    }
    Fill(s.dy, kOutputGradient);
    s.Forward();
    s.Backward();
    s.CheckAll({.y = fixture["y"], .dx = fixture["dx"], .gradients = fixture["gradients"]});
  }
}

TEST(GoldenLayers, HaveThreeCasesOfEveryLayer) {
  std::map<std::string, int> cases;
  for (const Json& fixture : Golden()["cases"]) ++cases[KindOf(fixture)];
#define LOCKSTEP_LAYER(kind, Name) EXPECT_GE(cases[#kind], 3) << #kind << " has too few cases in make_layers.py";
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
}

}  // namespace
}  // namespace lockstep::conformance
