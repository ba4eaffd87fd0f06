// SPDX-License-Identifier: Apache-2.0
#include "server/daemon.h"

#include <unistd.h>

#include <future>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/failpoints.h"
#include "common/log.h"
#include "common/model/initial_weights.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "server/launch/mpirun_launcher.h"
#include "server/launch/run_dir.h"
#include "server/rpc/json_view.h"

namespace lockstep {
namespace {

// A unix socket's path has 107 characters at most.
constexpr size_t kMaxSocketPath = 107;

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const ServerFlags& flags) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  LOCKSTEP_RETURN_IF_ERROR(daemon->Build(flags));
  return daemon;
}

absl::Status Daemon::Build(const ServerFlags& flags) {
  if (!flags.failpoints.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(failpoints_, Failpoints::Load(flags.failpoints, /*rank=*/-1));
    LogWarning(absl::StrCat("failpoints of ", flags.failpoints, " are armed"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(auto launcher, launch::MpirunLauncher::Create({.mpirun = flags.mpirun,
                                                                           .shim = flags.shim,
                                                                           .worker = flags.worker,
                                                                           .scratch_root = flags.scratch_root,
                                                                           .failpoints_file = flags.failpoints,
                                                                           .failpoints = failpoints_.get()}));
  LogInfo(absl::StrCat("the workers' shared memory is in ", launcher->scratch_root()));
  launcher_ = std::move(launcher);
  LOCKSTEP_ASSIGN_OR_RETURN(store_, store::Store::Open(flags.state_dir, failpoints_.get()));
  LOCKSTEP_RETURN_IF_ERROR(feed_.Replay(*store_));
  timers_ = std::make_unique<rpc::TimerQueue>();

  rpc::CoordinatorOptions options{
      .state_dir = flags.state_dir, .data_roots = flags.data_roots, .slots = flags.slots, .limits = {}};
  std::vector<std::string> addresses{flags.listen};
  if (!flags.worker_listen.empty()) {
    addresses.push_back(flags.worker_listen);
  } else if (const std::string socket = flags.state_dir + "/worker.sock"; socket.size() <= kMaxSocketPath) {
    options.worker_address = "unix:" + socket;
    addresses.push_back(options.worker_address);
  }
  options.on_store = [this](bool failing) { metrics_.SetStoreFailing(failing); };
  coordinator_ = std::make_unique<rpc::Coordinator>(
      options, store_.get(), launcher_.get(), timers_.get(), &hub_, &clock_,
      [this](const std::string& job_id, const v1::JobEvent& event) { feed_.OnEvent(job_id, event); });
  rpc::ServiceContext context{.coordinator = coordinator_.get(),
                              .store = store_.get(),
                              .hub = &hub_,
                              .timers = timers_.get(),
                              .slots = flags.slots};
  context.validate = [roots = flags.data_roots](const v1::JobSpec& spec, Violations& violations) {
    // What is wrong with the data is added here; the shapes are then not known and not checked.
    const DatasetInfo dataset = ProbeDataset(spec.dataset(), roots, spec.seed(), violations);
    JobPlan plan = PlanJob(spec, &dataset, violations);
    if (violations.empty()) CheckInitialWeights(spec.model(), plan.model, roots, violations);
    return plan;
  };
  context.on_call = [this](const std::string& method, const std::string& code) { metrics_.CountCall(method, code); };
  LOCKSTEP_ASSIGN_OR_RETURN(server_, rpc::RpcServer::Start(context, addresses));
  if (options.worker_address.empty()) coordinator_->SetWorkerAddress(server_->addresses().back());
  LOCKSTEP_ASSIGN_OR_RETURN(web_, web::WebServer::Start(flags.http, WebSourceOf()));
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints_.get(), "coordinator.start"));
  LOCKSTEP_RETURN_IF_ERROR(coordinator_->Start());
  ready_ = true;
  return absl::OkStatus();
}

web::WebSource Daemon::WebSourceOf() {
  web::WebSource source;
  source.metrics = [this] { return metrics_.Text(); };
  source.ready = [this] { return ready_.load(); };
  source.jobs = [this] { return rpc::JobsJson(*store_); };
  source.job = [this](const std::string& job_id) { return rpc::JobJson(*store_, job_id); };
  source.events = [this](const std::string& job_id, int64_t after) { return rpc::EventsJson(*store_, job_id, after); };
  return source;
}

void Daemon::Stop(std::chrono::milliseconds limit) {
  if (std::exchange(stopped_, true)) return;
  ready_ = false;
  if (server_ != nullptr) {
    server_->SetNotServing();
    auto drained = std::make_shared<std::promise<void>>();
    coordinator_->Drain([drained] { drained->set_value(); });
    if (drained->get_future().wait_for(limit) != std::future_status::ready) {
      LogWarning(
          absl::StrCat("not every job stopped within ", limit.count(), " ms; the next start takes them up again"));
    }
    server_->Shutdown(std::chrono::milliseconds(200));
  }
  web_.reset();
  // Nothing may call the coordinator any more when it goes.
  if (coordinator_ != nullptr) coordinator_->Stop();
  launcher_.reset();
  if (timers_ != nullptr) timers_->Stop();
}

Daemon::~Daemon() { Stop(std::chrono::milliseconds(0)); }

absl::Status WriteReadyFile(const std::string& path, const Daemon& daemon) {
  const nlohmann::json ready{
      {"grpc", daemon.grpc_address()}, {"http", daemon.http_address()}, {"pid", static_cast<int64_t>(getpid())}};
  return launch::WriteFileAtomically(path, ready.dump() + "\n");
}

}  // namespace lockstep
