// SPDX-License-Identifier: Apache-2.0
// `lockstep bench gemm` and `step`: measured in this process.
#include <algorithm>
#include <ostream>
#include <span>

#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_source.h"
#include "common/formats/atomic_file.h"
#include "common/status_macros.h"
#include "worker/measure/measured_device.h"

namespace lockstep::cli {

namespace {

// Enough to tell a rule from an exception.
constexpr int kTracedSteps = 5;

int Fail(const Options& options, const absl::Status& status) {
  *options.err << "error: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? kUsage : ExitCode(status.code());
}

// Says where, in words that begin with `what`.
int WriteText(const Options& options, const std::string& path, const std::string& text, const std::string& what) {
  if (path.empty()) return kOk;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const absl::Status status = WriteFileAtomically(path, std::span(&bytes, 1));
  if (!status.ok()) return Fail(options, status);
  *options.err << what << path << "\n";
  return kOk;
}

absl::StatusOr<DeviceName> DeviceOf(const v1::JobSpec& spec, const std::string& asked) {
  if (!asked.empty()) return ParseDeviceName(asked);
  switch (spec.resources().device()) {
    case v1::DEVICE_CPU:
      return DeviceName{DeviceWish::kCpu};
    case v1::DEVICE_CUDA:
      return DeviceName{DeviceWish::kCuda};
    default:
      return DeviceName{DeviceWish::kAuto};
  }
}

absl::StatusOr<GemmReport> MeasureGemm(const BenchGemmArguments& arguments) {
  LOCKSTEP_ASSIGN_OR_RETURN(const DeviceName name, ParseDeviceName(arguments.device));
  LOCKSTEP_ASSIGN_OR_RETURN(const MeasuredDevice on, OpenMeasuredDevice(name, arguments.threads));
  GemmReport report{.device = on.device->Description(), .products = {}, .levels = {}};
  for (const ProductKind& kind : ProductKinds(on.gpu)) {
    for (const int64_t n : arguments.sizes.empty() ? on.sizes.table : arguments.sizes) {
      LOCKSTEP_ASSIGN_OR_RETURN(report.products.emplace_back(), MeasureProduct(on, kind, n, arguments.seconds));
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(report.levels, MeasureBlasLevels(on, arguments.seconds));
  return report;
}

absl::StatusOr<StepProfile> MeasureStep(const v1::JobSpec& spec, const BenchStepArguments& arguments) {
  const int threads = arguments.threads > 0 ? arguments.threads : spec.resources().threads_per_worker();
  LOCKSTEP_ASSIGN_OR_RETURN(const DeviceName name, DeviceOf(spec, arguments.device));
  LOCKSTEP_ASSIGN_OR_RETURN(const MeasuredDevice on, OpenMeasuredDevice(name, std::max(1, threads)));
  return ProfileStep(spec, DataRoots(), on,
                     {.seconds = arguments.seconds, .traced_steps = arguments.trace.empty() ? 0 : kTracedSteps});
}

}  // namespace

int BenchGemm(const Options& options, const BenchGemmArguments& arguments) {
  const absl::StatusOr<GemmReport> report = MeasureGemm(arguments);
  if (!report.ok()) return Fail(options, report.status());
  *options.out << (options.json ? GemmJson(*report) : GemmTable(*report, options.width, options.ascii));
  return WriteText(options, arguments.plot, GemmPlot(*report), "plot: ");
}

int BenchStep(const Options& options, const BenchStepArguments& arguments) {
  v1::JobSpec spec;
  if (const int code = LoadJob(options, arguments.file, arguments.overrides, &spec); code != kOk) return code;
  const absl::StatusOr<StepProfile> profile = MeasureStep(spec, arguments);
  if (!profile.ok()) return Fail(options, profile.status());
  *options.out << (options.json ? StepJson(*profile) : StepTable(*profile, options.ascii));
  if (const int code = WriteText(options, arguments.plot, StepPlot(*profile), "plot: "); code != kOk) return code;
  return WriteText(options, arguments.trace, StepTrace(*profile),
                   "trace, for https://ui.perfetto.dev or chrome://tracing: ");
}

}  // namespace lockstep::cli
