// SPDX-License-Identifier: Apache-2.0
#include "server/web/web_server.h"

#include <civetweb.h>

#include <cctype>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/web/page.h"

namespace lockstep::web {
namespace {

constexpr char kJson[] = "application/json";
constexpr char kText[] = "text/plain; charset=utf-8";

int Send(mg_connection* connection, int code, const char* type, const std::string& body) {
  const char* reason = code == 200 ? "OK" : code == 404 ? "Not Found" : code == 405 ? "Method Not Allowed" : "Error";
  mg_printf(
      connection,
      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
      "X-Content-Type-Options: nosniff\r\n"
      "Content-Security-Policy: default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\r\n\r\n",
      code, reason, type, body.size());
  if (std::strcmp(mg_get_request_info(connection)->request_method, "HEAD") != 0) {
    mg_write(connection, body.data(), body.size());
  }
  return code;
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += (static_cast<unsigned char>(c) < ' ') ? ' ' : c;
  }
  return out;
}

int SendJson(mg_connection* connection, const absl::StatusOr<std::string>& body) {
  if (body.ok()) return Send(connection, 200, kJson, *body);
  const std::string message(body.status().message());
  return Send(connection, absl::IsNotFound(body.status()) ? 404 : 500, kJson,
              absl::StrCat("{\"error\":\"", Escaped(message), "\"}"));
}

// The number after "after=" in a query; 0 where there is none.
int64_t AfterOf(const char* query) {
  char value[32];
  int64_t after = 0;
  if (query == nullptr || mg_get_var(query, std::strlen(query), "after", value, sizeof(value)) <= 0) return 0;
  return absl::SimpleAtoi(value, &after) && after > 0 ? after : 0;
}

int Quiet(const mg_connection*, const char*) { return 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<WebServer>> WebServer::Start(const std::string& address, WebSource source) {
  const size_t colon = address.rfind(':');
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  int port = -1;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is not host:port"));
  }
  if (host == "localhost") host = "127.0.0.1";
  if (host.empty()) host = "0.0.0.0";
  const std::string listen = absl::StrCat(host, ":", port);
  std::unique_ptr<WebServer> self(new WebServer(std::move(source)));
  const char* options[] = {"listening_ports",
                           listen.c_str(),
                           "num_threads",
                           "8",
                           "request_timeout_ms",
                           "10000",
                           "enable_keep_alive",
                           "yes",
                           "keep_alive_timeout_ms",
                           "5000",
                           "enable_directory_listing",
                           "no",
                           nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = Quiet;
  self->context_ = mg_start(&callbacks, self.get(), options);
  mg_server_port ports[4];
  if (self->context_ == nullptr || mg_get_server_ports(self->context_, 4, ports) < 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot listen on ", address, " (HTTP): it is in use by another program, or not an address of this machine"));
  }
  self->address_ = absl::StrCat(host, ":", ports[0].port);
  mg_set_request_handler(self->context_, "/**", &WebServer::Handle, self.get());
  return self;
}

WebServer::~WebServer() {
  if (context_ != nullptr) mg_stop(context_);
}

int WebServer::Handle(mg_connection* connection, void* self) {
  return static_cast<WebServer*>(self)->Answer(connection);
}

int WebServer::Answer(mg_connection* connection) {
  const mg_request_info* request = mg_get_request_info(connection);
  if (std::strcmp(request->request_method, "GET") != 0 && std::strcmp(request->request_method, "HEAD") != 0) {
    return Send(connection, 405, kText, "only GET and HEAD\n");
  }
  const std::string path = request->local_uri;
  if (path == "/") return Send(connection, 200, "text/html; charset=utf-8", kPage);
  if (path == "/metrics") return Send(connection, 200, "text/plain; version=0.0.4; charset=utf-8", source_.metrics());
  if (path == "/healthz") return Send(connection, 200, kText, "ok\n");
  if (path == "/readyz") {
    return source_.ready() ? Send(connection, 200, kText, "ready\n") : Send(connection, 503, kText, "stopping\n");
  }
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  if (parts.size() >= 4 && parts[1] == "api" && parts[2] == "v1" && parts[3] == "jobs") {
    if (parts.size() == 4) return SendJson(connection, source_.jobs());
    if (parts.size() == 5) return SendJson(connection, source_.job(parts[4]));
    if (parts.size() == 6 && parts[5] == "events") {
      return SendJson(connection, source_.events(parts[4], AfterOf(request->query_string)));
    }
  }
  return Send(connection, 404, kText, "there is nothing here; try /\n");
}

}  // namespace lockstep::web
