// SPDX-License-Identifier: Apache-2.0
// The text of `lockstep bench`: no measuring here.
#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/bench.h"
#include "cli/format.h"
#include "cli/svg.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kBar = 30;

std::string Micro(double seconds) { return absl::StrFormat("%.1f", 1e6 * seconds); }
std::string Milli(double seconds) { return absl::StrFormat("%.0f", 1e3 * seconds); }
std::string Percent(double share) { return absl::StrFormat("%.0f%%", 100 * share); }
std::string Number(double value) { return absl::StrFormat("%.*f", value < 10 ? 2 : 1, value); }

// In which rates are told: GPUs reach numbers that are too long otherwise.
struct RateUnit {
  const char* name;
  double gflops;

  std::string heading() const { return absl::AsciiStrToUpper(name); }
  std::string operator()(double rate) const { return Number(rate / gflops); }
};
RateUnit UnitFor(double greatest_gflops) {
  return greatest_gflops < 10'000 ? RateUnit{"GFLOP/s", 1} : RateUnit{"TFLOP/s", 1000};
}

double Greatest(const std::vector<OperationTime>& times) {
  double greatest = 0;
  for (const OperationTime& time : times) greatest = std::max(greatest, time.gflops());
  return greatest;
}

Json ToJson(const OperationTime& time) {
  return {{"name", time.name},       {"n", time.n},
          {"seconds", time.seconds}, {"flops", time.flops},
          {"bytes", time.bytes},     {"gflops", time.gflops()},
          {"gbytes", time.gbytes()}, {"flops_per_byte", time.intensity()}};
}

}  // namespace

double GemmReport::peak_gflops() const {
  double peak = 0;
  for (const OperationTime& time : products) {
    if (time.name == "fp32") peak = std::max(peak, time.gflops());
  }
  for (const OperationTime& time : levels) peak = std::max(peak, time.gflops());
  return peak;
}

std::string GemmTable(const GemmReport& report, int width, bool ascii) {
  const double greatest = Greatest(report.products);
  const RateUnit unit = UnitFor(greatest);
  const int bar = width > 0 ? std::clamp(width - 40, 10, 60) : kBar;
  std::vector<std::vector<std::string>> rows{{"PRECISION", "N", "MICROSECONDS", unit.heading(), ""}};
  for (const OperationTime& time : report.products) {
    rows.push_back({time.name, absl::StrCat(time.n), Micro(time.seconds), unit(time.gflops()),
                    TextBar(time.gflops(), greatest, bar, ascii)});
  }
  std::string text = absl::StrCat(report.device, "\n\nC = A B, N x N:\n", Table(rows));
  rows = {{"LEVEL", "N", "FLOPS", "BYTES", "FLOPS/BYTE", unit.heading(), "GB/S", "OF FP32 PEAK"}};
  for (const OperationTime& time : report.levels) {
    rows.push_back({time.name, absl::StrCat(time.n), Count(time.flops), Count(time.bytes), Number(time.intensity()),
                    unit(time.gflops()), Number(time.gbytes()), Percent(time.gflops() / report.peak_gflops())});
  }
  return absl::StrCat(text, "\nOne operation of each BLAS level, FP32:\n", Table(rows));
}

std::string GemmJson(const GemmReport& report) {
  Json json{{"device", report.device}, {"peak_gflops", report.peak_gflops()}};
  for (const OperationTime& time : report.products) json["products"].push_back(ToJson(time));
  for (const OperationTime& time : report.levels) json["levels"].push_back(ToJson(time));
  return json.dump(2) + "\n";
}

std::string GemmPlot(const GemmReport& report) {
  std::vector<Series> series;
  for (const OperationTime& time : report.products) {
    if (series.empty() || series.back().name != time.name) series.push_back({time.name, {}});
    series.back().points.emplace_back(static_cast<double>(time.n), time.gflops());
  }
  const RateUnit unit = UnitFor(Greatest(report.products));
  for (Series& line : series) {
    for (auto& [n, rate] : line.points) rate /= unit.gflops;
  }
  return LineChart({"C = A B: " + report.device, "N (matrices are N x N)", unit.name}, series);
}

std::string RooflineClass(double flops, double bytes, double ridge) {
  if (flops <= 0 || bytes <= 0) return "-";
  return flops / bytes > ridge ? "compute" : "memory";
}

std::string StepTable(const StepProfile& profile, bool ascii) {
  const RateUnit unit = UnitFor(profile.peak_gflops);
  double greatest = std::max({profile.data_seconds, profile.loss_seconds, profile.sum_seconds, profile.update_seconds});
  for (const LayerTime& layer : profile.layers) greatest = std::max(greatest, layer.seconds());
  std::vector<std::vector<std::string>> rows{
      {"PART", "FORWARD US", "BACKWARD US", "OF STEP", unit.heading(), "OF PEAK", "FLOPS/BYTE", "BOUND BY", ""}};
  const auto share = [&](double seconds) { return Percent(seconds / profile.step_seconds); };
  const auto bar = [&](double seconds) { return TextBar(seconds, greatest, kBar / 2, ascii); };
  const auto other = [&](const char* name, double seconds) {
    rows.push_back({name, Micro(seconds), "", share(seconds), "", "", "", "", bar(seconds)});
  };
  other("data", profile.data_seconds);
  for (const LayerTime& layer : profile.layers) {
    const double gflops = layer.flops() / layer.seconds() / 1e9;
    const bool counted = layer.flops() > 0;
    rows.push_back({layer.name, Micro(layer.forward_seconds), Micro(layer.backward_seconds), share(layer.seconds()),
                    counted ? unit(gflops) : "-", counted ? Percent(gflops / profile.peak_gflops) : "-",
                    counted ? Number(layer.flops() / layer.bytes()) : "-",
                    RooflineClass(layer.flops(), layer.bytes(), profile.ridge()), bar(layer.seconds())});
  }
  other("loss", profile.loss_seconds);
  other("gradient sum", profile.sum_seconds);
  other("update", profile.update_seconds);
  const auto exact = [&](double seconds) { return absl::StrFormat("%.1f%%", 100 * seconds / profile.step_seconds); };
  const double rate = static_cast<double>(profile.batch) / profile.step_seconds;
  return absl::StrCat(
      profile.device, "\n",
      absl::StrFormat("a step of %d samples in %d shard%s: %.1f us, %s samples/s (median of %d steps)\n", profile.batch,
                      profile.shards, profile.shards == 1 ? "" : "s", 1e6 * profile.step_seconds, Count(rate),
                      profile.steps),
      absl::StrFormat("compute %s, gradient sum %s, stalled for data %s\n", exact(profile.compute_seconds()),
                      exact(profile.sum_seconds), exact(profile.data_seconds)),
      absl::StrFormat("measured peak: %s %s in %s, %.1f GB/s; above %.1f flops a byte arithmetic is the limit\n\n",
                      unit(profile.peak_gflops), unit.name, profile.precision, profile.peak_gbytes, profile.ridge()),
      Table(rows));
}

std::string StepJson(const StepProfile& profile) {
  Json json{{"device", profile.device},
            {"precision", profile.precision},
            {"steps", profile.steps},
            {"batch", profile.batch},
            {"shards", profile.shards},
            {"step_seconds", profile.step_seconds},
            {"samples_per_second", static_cast<double>(profile.batch) / profile.step_seconds},
            {"data_seconds", profile.data_seconds},
            {"loss_seconds", profile.loss_seconds},
            {"gradient_sum_seconds", profile.sum_seconds},
            {"update_seconds", profile.update_seconds},
            {"compute_share", profile.compute_seconds() / profile.step_seconds},
            {"communication_share", profile.sum_seconds / profile.step_seconds},
            {"data_stall_share", profile.data_seconds / profile.step_seconds},
            {"peak_gflops", profile.peak_gflops},
            {"peak_gbytes", profile.peak_gbytes}};
  json["layers"] = Json::array();
  for (const LayerTime& layer : profile.layers) {
    const double gflops = layer.flops() / layer.seconds() / 1e9;
    json["layers"].push_back({{"name", layer.name},
                              {"forward_seconds", layer.forward_seconds},
                              {"backward_seconds", layer.backward_seconds},
                              {"flops", layer.flops()},
                              {"bytes", layer.bytes()},
                              {"gflops", gflops},
                              {"share_of_peak", gflops / profile.peak_gflops},
                              {"bound", RooflineClass(layer.flops(), layer.bytes(), profile.ridge())}});
  }
  return json.dump(2) + "\n";
}

std::string StepPlot(const StepProfile& profile) {
  const RateUnit unit = UnitFor(profile.peak_gflops);
  std::vector<BarRow> rows;
  const auto note = [&](double seconds) {
    return absl::StrFormat("%.1f us, %s", 1e6 * seconds, Percent(seconds / profile.step_seconds));
  };
  const auto add_other = [&](const char* name, double seconds) {
    rows.push_back({name, {0, 0, 1e6 * seconds}, note(seconds)});
  };
  add_other("data", profile.data_seconds);
  for (const LayerTime& layer : profile.layers) {
    rows.push_back({layer.name, {1e6 * layer.forward_seconds, 1e6 * layer.backward_seconds, 0}, note(layer.seconds())});
    if (layer.flops() <= 0) continue;
    absl::StrAppendFormat(&rows.back().note, ", %s %s", unit(layer.flops() / layer.seconds() / 1e9), unit.name);
  }
  add_other("loss", profile.loss_seconds);
  add_other("gradient sum", profile.sum_seconds);
  add_other("update", profile.update_seconds);
  return StackedBars(
      {absl::StrFormat("A step of %d samples: %.1f us", profile.batch, 1e6 * profile.step_seconds), "microseconds", ""},
      {"forward", "backward", "other"}, rows);
}

StartPhases MedianStart(const std::vector<StartPhases>& runs) {
  StartPhases medians;
  if (runs.empty()) return medians;
  for (size_t i = 0; i < runs.front().size(); ++i) {
    std::vector<double> values;
    for (const StartPhases& run : runs) values.push_back(run[i].second);
    std::ranges::sort(values);
    medians.emplace_back(runs.front()[i].first, values[values.size() / 2]);
  }
  return medians;
}

std::string StartTable(const StartPhases& phases, size_t runs) {
  std::vector<std::vector<std::string>> rows{{"REACHED", "AT MS", "TOOK MS"}};
  double before = 0;
  for (const auto& [name, at] : phases) {
    rows.push_back({name, Milli(at), Milli(at - before)});
    before = at;
  }
  return absl::StrCat(Table(rows), "medians of ", runs, " starts; data is read while MPI connects the ranks\n");
}

std::string StartJson(const StartPhases& phases, const std::vector<StartPhases>& runs) {
  Json json{{"runs", runs.size()}, {"phases", Json::array()}};
  for (const auto& [name, at] : phases) json["phases"].push_back({{"name", name}, {"seconds", at}});
  json["first_step_seconds"] = phases.empty() ? 0 : phases.back().second;
  return json.dump(2) + "\n";
}

std::string AllreduceTable(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("rows") || !json["rows"].is_array() || !json.contains("ranks")) return "";
  std::vector<std::vector<std::string>> rows{{"BYTES", "LOCKSTEP US", "AND GATHERED US", "FASTEST US",
                                              "MPI_ALLREDUCE US", "COPY US", "ALG GB/S", "BUS GB/S", "VS MPI"}};
  for (const Json& row : json["rows"]) {
    const auto value = [&](const char* name) { return row.is_object() ? row.value(name, 0.0) : 0.0; };
    if (value("canonical_us") <= 0) return "";
    rows.push_back({absl::StrFormat("%.0f", value("bytes")), Number(value("canonical_us")),
                    Number(value("gathered_us")), Number(value("fastest_us")), Number(value("mpi_allreduce_us")),
                    Number(value("copy_us")), Number(value("algorithm_gb_s")), Number(value("bus_gb_s")),
                    absl::StrFormat("%.1fx", value("mpi_allreduce_us") / value("canonical_us"))});
  }
  return Table(rows);
}

}  // namespace lockstep::cli
