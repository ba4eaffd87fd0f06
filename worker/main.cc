// SPDX-License-Identifier: Apache-2.0
// lockstep-worker: one rank of a job. Started by mpirun on the coordinator's behalf.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include "CLI/CLI.hpp"
#include "worker/device/placement.h"
#include "worker/train/term_watcher.h"
#include "worker/train/worker_process.h"

namespace {

int FromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

}  // namespace

int main(int argc, char** argv) {
  lockstep::TermWatcher::Block();
  // A rank must not outlive the launcher that can kill it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  CLI::App app{"One rank of a Lockstep job; started by the coordinator through mpirun."};
  lockstep::WorkerOptions options;
  app.add_option("--coordinator", options.coordinator, "gRPC address of the coordinator")->required();
  app.add_option("--job", options.job_id, "Job id")->required();
  app.add_option("--generation", options.generation, "Launch of the job's worker group")->required();
  app.add_option("--threads", options.threads, "CPU threads of this rank")->check(CLI::Range(1, 1024));
  const std::map<std::string, lockstep::DeviceWish> devices{{"auto", lockstep::DeviceWish::kAuto},
                                                            {"cpu", lockstep::DeviceWish::kCpu},
                                                            {"cuda", lockstep::DeviceWish::kCuda}};
  app.add_option("--device", options.device, "auto, cpu or cuda")->transform(CLI::CheckedTransformer(devices));
  app.add_flag("--share-devices", options.share_devices, "Ranks of a host may be more than its GPUs");
  app.add_option("--failpoints", options.failpoints, "File of failpoints, for tests");
  CLI11_PARSE(app, argc, argv);
  options.rank = FromEnvironment("OMPI_COMM_WORLD_RANK", 0);
  options.world_size = FromEnvironment("OMPI_COMM_WORLD_SIZE", 1);
  const auto place = lockstep::LocalPlaceOf([](const char* name) -> const char* { return std::getenv(name); });
  if (!place.ok()) {
    std::cerr << "lockstep-worker: " << place.status().message() << '\n';
    return lockstep::kExitFailed;
  }
  options.place = *place;
  const int code = lockstep::RunWorker(options);
  // After a failure peers may be gone: leave without the exit handlers, some of which would wait for them.
  if (code != lockstep::kExitSucceeded) _exit(code);
  return code;
}
