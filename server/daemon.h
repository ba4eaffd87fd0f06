// SPDX-License-Identifier: Apache-2.0
// The coordinator's objects, put together.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/failpoints.h"
#include "server/flags.h"
#include "server/launch/launcher.h"
#include "server/metrics/metrics.h"
#include "server/metrics_feed.h"
#include "server/rpc/coordinator.h"
#include "server/rpc/server.h"
#include "server/store/store.h"
#include "server/web/web_server.h"

namespace lockstep {

class Daemon {
 public:
  // Everything serves when it returns OK. Errors say what is wrong and what to do.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const ServerFlags& flags);
  ~Daemon();

  std::string grpc_address() const { return server_->addresses().front(); }
  const std::string& http_address() const { return web_->address(); }

  // Stops every group with a checkpoint, at most for `limit`, and then all serving.
  void Stop(std::chrono::milliseconds limit);

 private:
  Daemon() = default;
  absl::Status Build(const ServerFlags& flags);
  web::WebSource WebSourceOf();

  // In the order in which they depend on each other.
  SystemClock clock_;
  std::atomic<bool> ready_{false};
  bool stopped_ = false;
  metrics::Metrics metrics_;
  MetricsFeed feed_{&metrics_};
  rpc::EventHub hub_;
  // Null unless armed.
  std::unique_ptr<Failpoints> failpoints_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<rpc::TimerQueue> timers_;
  std::unique_ptr<launch::Launcher> launcher_;
  std::unique_ptr<rpc::Coordinator> coordinator_;
  std::unique_ptr<rpc::RpcServer> server_;
  std::unique_ptr<web::WebServer> web_;
};

// Writes {"grpc": ..., "http": ..., "pid": N} atomically.
absl::Status WriteReadyFile(const std::string& path, const Daemon& daemon);

}  // namespace lockstep
