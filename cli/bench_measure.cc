// SPDX-License-Identifier: Apache-2.0
// `lockstep bench gemm` and `step`: measured in this process.
#include <ostream>
#include <span>

#include "absl/strings/str_cat.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_source.h"
#include "common/formats/atomic_file.h"

namespace lockstep::cli {

namespace {

int Fail(const Options& options, const absl::Status& status) {
  *options.err << "error: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? kUsage : ExitCode(status.code());
}

int WritePlot(const Options& options, const std::string& path, const std::string& svg) {
  if (path.empty()) return kOk;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(svg));
  const absl::Status status = WriteFileAtomically(path, std::span(&bytes, 1));
  if (!status.ok()) return Fail(options, status);
  *options.err << "plot: " << path << "\n";
  return kOk;
}

}  // namespace

int BenchGemm(const Options& options, const BenchGemmArguments& arguments) {
  std::vector<int64_t> sizes = arguments.sizes;
  for (int64_t n = 32; arguments.sizes.empty() && n <= 2048; n *= 2) sizes.push_back(n);
  const std::unique_ptr<Device> device = MakeCpuDevice(arguments.threads);
  GemmReport report{.device = device->Description(), .products = {}, .levels = {}};
  for (const ProductKind& kind : ProductKinds()) {
    for (const int64_t n : sizes) {
      const auto time = MeasureProduct(*device, kind, n, arguments.seconds);
      if (!time.ok()) return Fail(options, time.status());
      report.products.push_back(*time);
    }
  }
  auto levels = MeasureBlasLevels(*device, arguments.seconds);
  if (!levels.ok()) return Fail(options, levels.status());
  report.levels = *std::move(levels);
  *options.out << (options.json ? GemmJson(report) : GemmTable(report, options.width, options.ascii));
  return WritePlot(options, arguments.plot, GemmPlot(report));
}

int BenchStep(const Options& options, const BenchStepArguments& arguments) {
  v1::JobSpec spec;
  if (const int code = LoadJob(options, arguments.file, arguments.overrides, &spec); code != kOk) return code;
  const absl::StatusOr<StepProfile> profile = ProfileStep(spec, DataRoots(), arguments.threads, arguments.seconds);
  if (!profile.ok()) return Fail(options, profile.status());
  *options.out << (options.json ? StepJson(*profile) : StepTable(*profile, options.ascii));
  return WritePlot(options, arguments.plot, StepPlot(*profile));
}

}  // namespace lockstep::cli
