// SPDX-License-Identifier: Apache-2.0
// The standard health protocol. Its messages are so small that they are written and read by hand: one
// string out, one enum in.
#include <ostream>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "grpcpp/generic/generic_stub.h"

namespace lockstep::cli {

namespace {

constexpr char kServing = 1;
constexpr char kStatusTag = 0x08;

}  // namespace

int Health(const Options& options) {
  const Client client(options);
  grpc::GenericStub stub(client.channel());
  grpc::ClientContext context;
  client.SetDeadline(context);
  grpc::CompletionQueue queue;
  // An empty request asks for the whole server. A buffer without any slice would be no message at all.
  const grpc::Slice empty;
  const grpc::ByteBuffer request(&empty, 1);
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return ReportError(options, status);
  grpc::Slice slice;
  const bool serving = response.DumpToSingleSlice(&slice).ok() && slice.size() == 2 && slice.begin()[0] == kStatusTag &&
                       slice.begin()[1] == kServing;
  *options.out << (serving ? "serving\n" : "not serving\n");
  return serving ? kOk : kUnavailable;
}

}  // namespace lockstep::cli
