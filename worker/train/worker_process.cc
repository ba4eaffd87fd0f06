// SPDX-License-Identifier: Apache-2.0
#include "worker/train/worker_process.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/failpoints.h"
#include "common/log.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "worker/comm/mpi/mpi_communicator.h"
#include "worker/comm/nccl/nccl_api.h"
#include "worker/comm/nccl/nccl_group.h"
#include "worker/data/dataset.h"
#include "worker/device/device.h"
#include "worker/device/device_loader.h"
#include "worker/device/placement.h"
#include "worker/train/abort_switch.h"
#include "worker/train/choose_device.h"
#include "worker/train/failure.h"
#include "worker/train/gpu_group.h"
#include "worker/train/gpu_sum.h"
#include "worker/train/session.h"
#include "worker/train/start_times.h"
#include "worker/train/tell_device.h"
#include "worker/train/term_watcher.h"
#include "worker/train/trainer.h"

namespace lockstep {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{30'000};
// A coordinator that is away comes back; what went wrong is not worth as long a wait as what went right.
constexpr milliseconds kCloseTimeout{600'000};
constexpr milliseconds kCloseFailedTimeout{5'000};
// A peer that computes a large step is silent for its length, one that is dead for ever; the
// coordinator sees the dead one's stream end long before this.
constexpr milliseconds kExchangeTimeout{600'000};

std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

// As others see it: the worker may be in a pid namespace of its own, where getpid() says something else.
int64_t OuterPid() {
  char text[32] = {};
  const ssize_t size = readlink("/proc/self", text, sizeof(text) - 1);
  int64_t pid = 0;
  return size > 0 && absl::SimpleAtoi(text, &pid) ? pid : getpid();
}

// Another launch may find the disk or the memory in a better state.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) || absl::IsInternal(status);
}

absl::StatusOr<JobPlan> MakePlan(const v1::Welcome& welcome) {
  Violations violations;
  const std::vector<std::string> roots(welcome.data_roots().begin(), welcome.data_roots().end());
  const DatasetInfo info = ProbeDataset(welcome.spec().dataset(), roots, welcome.spec().seed(), violations);
  JobPlan plan;
  if (violations.empty()) plan = PlanJob(welcome.spec(), &info, violations);
  if (!violations.empty()) {
    const Violation& first = violations.list().front();
    return absl::InvalidArgumentError(absl::StrCat(first.field, ": ", first.description));
  }
  if (welcome.spec().replay().until_step() > 0) plan.total_steps = welcome.spec().replay().until_step();
  if (plan.logical_shards != welcome.logical_shards() || plan.total_steps != welcome.total_steps()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data changed since the job was submitted: ", plan.total_steps, " steps instead of ",
                     welcome.total_steps(), "; submit it again"));
  }
  return plan;
}

// The data is read while MPI starts up: each takes a few tenths of a second.
struct Loaded {
  Clock::Wall when;
  JobPlan plan;
  std::unique_ptr<Dataset> dataset;
  std::vector<InitialTensor> initial_weights;
};
// Who resumes has its parameters from there, but may be sent back to the very first ones.
bool NeedsInitialWeights(const v1::Welcome& welcome) {
  const bool resumes = !welcome.resume_checkpoint().empty() || !welcome.resume_snapshot().empty();
  return !resumes || welcome.spec().training().non_finite() == v1::NON_FINITE_POLICY_ROLL_BACK;
}
absl::StatusOr<Loaded> Load(const v1::Welcome& welcome, Failpoints* failpoints) {
  Loaded loaded;
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "data.read"));
  LOCKSTEP_ASSIGN_OR_RETURN(loaded.plan, MakePlan(welcome));
  const std::vector<std::string> roots(welcome.data_roots().begin(), welcome.data_roots().end());
  // One output tells two classes apart.
  const int64_t outputs = loaded.plan.model.output.elements();
  const int64_t classes = loaded.plan.dataset.classification ? std::max<int64_t>(outputs, 2) : 0;
  LOCKSTEP_ASSIGN_OR_RETURN(loaded.dataset,
                            OpenDataset(welcome.spec().dataset(), roots, welcome.spec().seed(), classes));
  if (NeedsInitialWeights(welcome)) {
    LOCKSTEP_ASSIGN_OR_RETURN(loaded.initial_weights,
                              ReadInitialWeights(welcome.spec().model(), loaded.plan.model, roots));
  }
  loaded.when = SystemClock().WallNow();
  return loaded;
}

// Its threads run beside its GPU; the job goes on where they do not.
void BindTo(const WorkerOptions& options, const GpuInfo& gpu) {
  const absl::Status bound = BindThread(CoresBeside(gpu.pci));
  if (!bound.ok())
    LogInfo(absl::StrCat("rank ", options.rank, ": is not bound to the cores beside its GPU: ", bound.ToString()));
}

// What the ranks agree on is what this one has then.
absl::StatusOr<Agreement> Agree(Communicator& communicator, const WorkerOptions& options, ChosenDevice& chosen) {
  absl::StatusOr<Agreement> agreed = AgreeOnDevices(communicator, options.device, options.share_devices, HostName(),
                                                    chosen.gpu.has_value() ? chosen.gpu->uuid : "");
  // Another launch would meet the same GPUs.
  if (absl::IsFailedPrecondition(agreed.status())) return Permanent(agreed.status());
  if (!agreed.ok() || !chosen.gpu.has_value()) return agreed;
  if (agreed->why_cpu.empty()) {
    BindTo(options, *chosen.gpu);
  } else {
    LogInfo(absl::StrCat("rank ", options.rank, ": trains on the CPU: ", agreed->why_cpu));
    chosen = {MakeCpuDevice(options.threads), std::nullopt, agreed->why_cpu};
  }
  return agreed;
}

// Null: gradients do not go from GPU to GPU, and where they could, the log says why not.
absl::StatusOr<std::unique_ptr<nccl::NcclGroup>> MeetOverNccl(Communicator& communicator, GrpcSession& session,
                                                              const SumFacts& facts, nccl::GroupOptions options) {
  const NcclLoader load = [] { return nccl::LoadNccl(CudaFoldersFirst(), CudaFoldersLast()); };
  LOCKSTEP_ASSIGN_OR_RETURN(const NcclForAll nccl, LoadNcclForAll(communicator, facts, load));
  if (nccl.api != nullptr) {
    LogInfo(absl::StrCat("rank ", options.rank, ": gradients go from GPU to GPU over NCCL"));
    return MeetOnGpus(session, nccl.api, std::move(options));
  }
  if (!nccl.why_staged.empty()) {
    LogInfo(absl::StrCat("rank ", options.rank, ": gradients go through the host: ", nccl.why_staged));
  }
  return std::unique_ptr<nccl::NcclGroup>();
}

// Of the calling thread's GPU.
absl::StatusOr<std::unique_ptr<nccl::ReduceOps>> ReduceOpsOf(const Device& device) {
  LOCKSTEP_ASSIGN_OR_RETURN(const DevicePlugin* const plugin, LoadCudaPlugin());
  return plugin->reduce_ops(device);
}

// Null where no profiler watches this process, or where it is the CPU that computes.
std::unique_ptr<RangeMarker> RangesFor(const ChosenDevice& chosen) {
  if (!chosen.gpu.has_value()) return nullptr;
  const absl::StatusOr<const DevicePlugin*> plugin = LoadCudaPlugin();
  return plugin.ok() ? (*plugin)->ranges() : nullptr;
}

// Takes from `loaded` all but the data set.
TrainerConfig ConfigOf(const WorkerOptions& options, const v1::Welcome& welcome, Loaded& loaded, v1::StartTimes start) {
  return {.spec = welcome.spec(),
          .plan = std::move(loaded.plan),
          .generation = options.generation,
          .output_dir = welcome.output_dir(),
          .resume_checkpoint = welcome.resume_checkpoint(),
          .resume_snapshot = welcome.resume_snapshot(),
          .first_step = welcome.first_step(),
          .snapshot_path = welcome.snapshot_path(),
          .initial_weights = std::move(loaded.initial_weights),
          .start = std::move(start)};
}

struct Outcome {
  absl::Status status;
  Trainer::Result result;
};

// What the trainer has on the GPU is freed next, which would wait for messages that never come.
void Part(nccl::NcclGroup* gpus, const absl::Status& outcome) {
  if (gpus == nullptr) return;
  if (!outcome.ok()) return gpus->Abort();
  // All that the job wants is done.
  if (const absl::Status closed = gpus->Close(); !closed.ok()) LogWarning(closed.ToString());
}

Outcome Train(const WorkerOptions& options, absl::StatusOr<ChosenDevice> chosen, GrpcSession& session,
              v1::StartTimes start, AbortSwitch& on_lost, Failpoints* failpoints) {
  // Another launch would meet the same machines.
  if (!chosen.ok()) return {Permanent(chosen.status()), {}};
  const SystemClock clock;
  const v1::Welcome& welcome = session.welcome();
  std::future<absl::StatusOr<Loaded>> loading =
      std::async(std::launch::async, [&] { return Load(welcome, failpoints); });
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = MakeMpiCommunicator({.threads = options.threads});
  SetTime(clock.WallNow(), start.mutable_mpi_ready());
  absl::StatusOr<Loaded> loaded = loading.get();
  if (!communicator.ok()) return {communicator.status(), {}};
  if (!loaded.ok()) return {MayPass(loaded.status()) ? loaded.status() : Permanent(loaded.status()), {}};
  (*communicator)->set_timeout(kExchangeTimeout);
  std::unique_ptr<nccl::NcclGroup> gpus;
  on_lost.Arm([&] { (*communicator)->Abort(); });
  const absl::Cleanup disarm = [&] { on_lost.Disarm(); };
  SetTime(loaded->when, start.mutable_data_ready());
  const absl::StatusOr<Agreement> agreed = Agree(**communicator, options, *chosen);
  if (!agreed.ok()) return {agreed.status(), {}};
  TellDevice(session, options.rank, *agreed, chosen->device->Description());
  const SumFacts facts{.on_gpus = chosen->gpu.has_value(),
                       .ranks = (*communicator)->size(),
                       .shards = loaded->plan.logical_shards,
                       .shared = agreed->shared};
  auto met = MeetOverNccl(**communicator, session, facts,
                          {.rank = (*communicator)->rank(),
                           .size = (*communicator)->size(),
                           .timeout = kExchangeTimeout,
                           .clock = &clock,
                           .given_up = &on_lost.pulled()});
  if (!met.ok()) return {met.status(), {}};
  gpus = std::move(*met);
  if (gpus != nullptr) on_lost.Arm([&] { gpus->Abort(); });

  const std::unique_ptr<RangeMarker> ranges = RangesFor(*chosen);
  TrainerConfig config = ConfigOf(options, welcome, *loaded, std::move(start));
  config.ranges = ranges.get();
  if (gpus != nullptr) config.device_reducer = OverNccl(gpus.get(), [&] { return ReduceOpsOf(*chosen->device); });
  Outcome outcome;
  auto trainer = Trainer::Create(std::move(config), chosen->device.get(), communicator->get(), loaded->dataset.get(),
                                 &session, &clock, failpoints);
  outcome.status = trainer.status();
  if (trainer.ok()) {
    absl::StatusOr<Trainer::Result> result = (*trainer)->Run();
    outcome.status = result.status();
    if (result.ok()) outcome.result = *result;
    Part(gpus.get(), outcome.status);
  }
  return outcome;
}

absl::StatusOr<ChosenDevice> Choose(const WorkerOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(ChosenDevice chosen, ChooseDevice({.wish = options.device,
                                                               .place = options.place,
                                                               .share = options.share_devices,
                                                               .threads = options.threads}));
  if (!chosen.why_cpu.empty()) LogInfo(absl::StrCat("rank ", options.rank, ": trains on the CPU: ", chosen.why_cpu));
  return chosen;
}

v1::Goodbye LastWord(const WorkerOptions& options, const Outcome& outcome) {
  v1::Goodbye goodbye;
  goodbye.set_generation(options.generation);
  goodbye.set_step(outcome.result.step);
  if (!outcome.status.ok()) {
    goodbye.set_outcome(v1::Goodbye::OUTCOME_FAILED);
    goodbye.set_message(absl::StrCat("rank ", options.rank, ": ", outcome.status.message()));
    goodbye.set_permanent(IsPermanent(outcome.status));
    goodbye.set_resume_unusable(IsResumeUnusable(outcome.status));
  } else {
    goodbye.set_outcome(outcome.result.finished ? v1::Goodbye::OUTCOME_SUCCEEDED : v1::Goodbye::OUTCOME_STOPPED);
  }
  return goodbye;
}

}  // namespace

int RunWorker(const WorkerOptions& options) {
  v1::StartTimes start;
  SetTime(SystemClock().WallNow(), start.mutable_worker_started());
  std::unique_ptr<Failpoints> failpoints;
  if (!options.failpoints.empty()) {
    auto armed = Failpoints::Load(options.failpoints, options.rank);
    if (!armed.ok()) {
      LogError(absl::StrCat("rank ", options.rank, ": ", armed.status().ToString()));
      return kExitFailed;
    }
    failpoints = std::move(*armed);
  }
  if (!HitFailpoint(failpoints.get(), "worker.start").ok()) return kExitFailed;
  absl::StatusOr<ChosenDevice> chosen = Choose(options);
  v1::Hello hello;
  hello.set_job_id(options.job_id);
  hello.set_generation(options.generation);
  hello.set_rank(options.rank);
  hello.set_world_size(options.world_size);
  hello.set_host(HostName());
  hello.set_pid(OuterPid());
  // A GPU is not certain before all ranks have agreed.
  if (chosen.ok() && !chosen->gpu.has_value()) hello.set_device(chosen->device->Description());

  AbortSwitch lost;
  const auto on_lost = [&](const std::string& reason) {
    LogError(absl::StrCat("rank ", options.rank, ": lost the coordinator: ", reason));
    lost.Pull();
  };
  absl::StatusOr<std::unique_ptr<GrpcSession>> session =
      GrpcSession::Connect(options.coordinator, std::move(hello), kConnectTimeout, on_lost);
  if (!session.ok()) {
    LogError(absl::StrCat("rank ", options.rank, ": ", options.coordinator, ": ", session.status().ToString()));
    return kExitLost;
  }
  SetTime(SystemClock().WallNow(), start.mutable_connected());
  const TermWatcher on_term([&] { (*session)->AskToStop(StopRequest::kStopWithCheckpoint); });
  const Outcome outcome = Train(options, std::move(chosen), **session, std::move(start), lost, failpoints.get());
  if (lost.pulled()) return kExitLost;
  if (!outcome.status.ok()) LogError(absl::StrCat("rank ", options.rank, ": ", outcome.status.ToString()));
  (*session)->Close(LastWord(options, outcome), outcome.status.ok() ? kCloseTimeout : kCloseFailedTimeout);
  if (!outcome.status.ok()) return absl::IsAborted(outcome.status) ? kExitLost : kExitFailed;
  FinalizeMpi();
  return kExitSucceeded;
}

}  // namespace lockstep
