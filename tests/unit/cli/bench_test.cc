// SPDX-License-Identifier: Apache-2.0
#include "cli/bench.h"

#include <gmock/gmock.h>

#include "cli/child.h"
#include "cli/svg.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

OperationTime Time(const std::string& name, int64_t n, double flops, double bytes, double seconds) {
  return {.name = name, .n = n, .flops = flops, .bytes = bytes, .seconds = seconds};
}

GemmReport Gemm() {
  return {.device = "cpu <test>",
          .products = {Time("fp32", 64, 1e9, 1e6, 0.02), Time("fp32", 128, 1e9, 1e6, 0.01),
                       Time("bf16", 64, 1e9, 1e6, 0.005)},
          .levels = {Time("1: axpy", 100, 1e9, 6e9, 0.5), Time("3: gemm", 1024, 2e9, 1e7, 0.025)}};
}

TEST(BenchGemmTest, FiguresAreThoseOfTheTimes) {
  const json report = json::parse(GemmJson(Gemm()));
  EXPECT_DOUBLE_EQ(report["products"][0]["gflops"], 50);
  EXPECT_DOUBLE_EQ(report["products"][2]["gflops"], 200);
  EXPECT_DOUBLE_EQ(report["levels"][0]["gbytes"], 12);
  EXPECT_DOUBLE_EQ(report["levels"][0]["flops_per_byte"], 1.0 / 6);
  // Of FP32 alone: the levels are measured in it.
  EXPECT_DOUBLE_EQ(report["peak_gflops"], 100);
  const std::string table = GemmTable(Gemm(), 0, /*ascii=*/true);
  EXPECT_THAT(table, HasSubstr("fp32        128   10000.0        100.0     ###############"));
  EXPECT_THAT(table, HasSubstr("80%"));
}

TEST(BenchGemmTest, PlotHasALineForEachPrecision) {
  const std::string svg = GemmPlot(Gemm());
  EXPECT_THAT(svg, HasSubstr("cpu &lt;test&gt;"));
  size_t lines = 0;
  for (size_t at = svg.find("<polyline"); at != std::string::npos; at = svg.find("<polyline", at + 1)) ++lines;
  EXPECT_EQ(lines, 2u);
}

StepProfile Profile() {
  StepProfile profile{.device = "cpu",
                      .precision = "fp32",
                      .steps = 9,
                      .batch = 50,
                      .shards = 2,
                      .step_seconds = 1e-3,
                      .data_seconds = 1e-4,
                      .loss_seconds = 5e-5,
                      .sum_seconds = 2e-5,
                      .update_seconds = 1e-4,
                      .peak_gflops = 100,
                      .peak_gbytes = 10};
  profile.layers = {
      {.name = "dense+relu",
       .forward_seconds = 2e-4,
       .backward_seconds = 3e-4,
       .work = {.forward_flops = 1e7, .backward_flops = 1.5e7, .forward_bytes = 4e5, .backward_bytes = 6e5}},
      {.name = "dropout", .forward_seconds = 1e-4, .backward_seconds = 1e-4, .work = {.forward_bytes = 1e5}}};
  return profile;
}

TEST(BenchStepTest, FiguresAreThoseOfTheTimes) {
  const json report = json::parse(StepJson(Profile()));
  EXPECT_DOUBLE_EQ(report["samples_per_second"], 50'000);
  EXPECT_DOUBLE_EQ(report["layers"][0]["gflops"], 50);
  EXPECT_DOUBLE_EQ(report["layers"][0]["share_of_peak"], 0.5);
  EXPECT_EQ(report["layers"][0]["bound"], "compute");
  EXPECT_EQ(report["layers"][1]["bound"], "-");
  const std::string table = StepTable(Profile(), /*ascii=*/true);
  EXPECT_DOUBLE_EQ(report["data_stall_share"], 0.1);
  EXPECT_DOUBLE_EQ(report["communication_share"], 0.02);
  EXPECT_DOUBLE_EQ(report["compute_share"], 0.88);
  EXPECT_THAT(table, HasSubstr("50.0k samples/s"));
  EXPECT_THAT(table, HasSubstr("compute 88.0%, gradient sum 2.0%, stalled for data 10.0%"));
  EXPECT_THAT(table, HasSubstr("above 10.0 flops a byte"));
  EXPECT_THAT(StepPlot(Profile()), HasSubstr("500.0 us, 50%, 50.0 GFLOP/s"));
}

TEST(BenchStepTest, RatesOfGpusAreToldInTeraflops) {
  StepProfile profile = Profile();
  profile.precision = "bf16";
  profile.peak_gflops = 700'000;
  profile.layers[0].work.forward_flops = 2.5e11 - 1.5e7;
  const std::string table = StepTable(profile, /*ascii=*/true);
  EXPECT_THAT(table, HasSubstr("TFLOP/S"));
  EXPECT_THAT(table, HasSubstr("500.0     71%"));
  EXPECT_THAT(table, HasSubstr("measured peak: 700.0 TFLOP/s in bf16"));
  EXPECT_THAT(StepPlot(profile), HasSubstr("500.0 TFLOP/s"));
}

TEST(BenchStepTest, RooflineIsTheRidge) {
  EXPECT_EQ(RooflineClass(101, 10, 10), "compute");
  EXPECT_EQ(RooflineClass(99, 10, 10), "memory");
  EXPECT_EQ(RooflineClass(0, 10, 10), "-");
}

TEST(BenchStartTest, MediansAndWhatEachPhaseTook) {
  const std::vector<StartPhases> runs{
      {{"stored", 0.1}, {"done", 0.5}}, {{"stored", 0.3}, {"done", 0.9}}, {{"stored", 0.2}, {"done", 0.6}}};
  const StartPhases medians = MedianStart(runs);
  EXPECT_THAT(medians, ElementsAre(std::pair("stored", 0.2), std::pair("done", 0.6)));
  EXPECT_THAT(StartTable(medians, 3), HasSubstr("done      600     400"));
  EXPECT_DOUBLE_EQ(json::parse(StartJson(medians, runs))["first_step_seconds"], 0.6);
}

TEST(BenchAllreduceTest, TableOfWhatTheProgramPrints) {
  const std::string text =
      R"({"ranks": 2, "rows": [{"bytes": 4096, "canonical_us": 2.0, "gathered_us": 3.0, "fastest_us": 21.0, "mpi_allreduce_us": 20.0,
          "copy_us": 1.0, "algorithm_gb_s": 2.05, "bus_gb_s": 2.05}]})";
  EXPECT_THAT(AllreduceTable(text), HasSubstr("10.0x"));
  for (const char* bad : {"", "mpirun: not found", "{}", R"({"ranks": 2, "rows": [{}]})",
                          R"({"ranks": 2, "rows": [1]})", R"({"ranks": 2, "rows": 1})"}) {
    EXPECT_EQ(AllreduceTable(bad), "") << bad;
  }
}

TEST(SvgTest, ChartsOfNothingOrOnePointAreWhole) {
  for (const std::vector<Series>& series :
       {std::vector<Series>{}, {{"a", {}}}, {{"a", {{8, 0}}}}, {{"a", {{8, 3}}}, {"b", {{8, 4}}}}}) {
    const std::string svg = LineChart({"t", "x", "y"}, series);
    EXPECT_THAT(svg, HasSubstr("</svg>"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
  }
  EXPECT_THAT(StackedBars({"t", "x", ""}, {"a"}, {}), HasSubstr("</svg>"));
  EXPECT_THAT(StackedBars({"t", "x", ""}, {"a"}, {{"<b>", {0}, ""}}), HasSubstr("&lt;b&gt;"));
}

TEST(SvgTest, TextBarsAreInProportion) {
  EXPECT_EQ(TextBar(5, 10, 8, true), "####");
  EXPECT_EQ(TextBar(10, 10, 2, false), "██");
  EXPECT_EQ(TextBar(1, 16, 2, false), "▏");
  EXPECT_EQ(TextBar(0, 10, 8, true), "");
  EXPECT_EQ(TextBar(1, 0, 8, true), "");
  EXPECT_EQ(TextBar(20, 10, 4, true), "####");
}

TEST(ChildTest, TellsLinesAndTheEnd) {
  std::vector<std::string> lines;
  const auto keep = [&](const std::string& line) {
    lines.push_back(line);
    return true;
  };
  EXPECT_EQ(RunChild({"sh", "-c", "printf 'a\\nb c\\nwithout end'; exit 3"}, keep), 3);
  EXPECT_THAT(lines, ElementsAre("a", "b c"));
  EXPECT_EQ(RunChild({"/no/such/program"}, keep), 127);
}

TEST(ChildTest, StopsAtTheFirstRefusedLine) {
  int told = 0;
  // Its wait ends with the signal.
  const int code = RunChild({"sh", "-c", "trap 'echo bye; exit 7' INT; echo go; while :; do sleep 0.01; done"},
                            [&](const std::string& line) {
                              ++told;
                              return line != "go";
                            });
  EXPECT_EQ(code, 7);
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace lockstep::cli
