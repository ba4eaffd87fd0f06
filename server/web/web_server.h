// SPDX-License-Identifier: Apache-2.0
// HTTP on one port: metrics, health, the live page and its JSON. Reads only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

struct mg_context;
struct mg_connection;

namespace lockstep::web {

// Where the answers come from. Called from several threads at once.
struct WebSource {
  // Prometheus text.
  std::function<std::string()> metrics;
  // True while new jobs are taken.
  std::function<bool()> ready;
  // JSON; NOT_FOUND becomes 404.
  std::function<absl::StatusOr<std::string>()> jobs;
  std::function<absl::StatusOr<std::string>(const std::string& job_id)> job;
  std::function<absl::StatusOr<std::string>(const std::string& job_id, int64_t after)> events;
};

class WebServer {
 public:
  // `address` is "host:port"; port 0: any free one. FAILED_PRECONDITION where it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<WebServer>> Start(const std::string& address, WebSource source);
  ~WebServer();

  // With the real port.
  const std::string& address() const { return address_; }

 private:
  explicit WebServer(WebSource source) : source_(std::move(source)) {}
  static int Handle(mg_connection* connection, void* self);
  int Answer(mg_connection* connection);

  const WebSource source_;
  std::string address_;
  mg_context* context_ = nullptr;
};

}  // namespace lockstep::web
