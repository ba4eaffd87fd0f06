// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/capture.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "tests/emulator/counts.h"

namespace lockstep::emulated {

thread_local Counts counts;

namespace {

using Works = std::vector<std::function<void()>>;

// Streams are of one thread, and a thread has one.
thread_local std::unique_ptr<Works> captured;
thread_local cudaStream_t captured_stream = nullptr;
std::atomic<int64_t> launches, nodes;

Works* Of(cudaGraph_t graph) { return reinterpret_cast<Works*>(graph); }
Works* Of(cudaGraphExec_t graph) { return reinterpret_cast<Works*>(graph); }

}  // namespace

void Enqueue(std::function<void()> work) {
  ++counts.enqueued;
  if (counts.dry) return;
  if (captured == nullptr) {
    work();
  } else {
    captured->push_back(std::move(work));
  }
}

bool Capturing() { return captured != nullptr; }

void CheckStream(cudaStream_t stream) {
  if (captured == nullptr || stream == captured_stream) return;
  std::fprintf(stderr, "emulated CUDA: work on another stream than the one that is captured\n");
  std::abort();
}

GraphCounts CountGraphs() { return {launches, nodes}; }

}  // namespace lockstep::emulated

using namespace lockstep::emulated;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  // The default stream cannot be captured.
  if (captured != nullptr || stream == nullptr) return cudaErrorIllegalState;
  captured_stream = stream;
  captured = std::make_unique<Works>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (captured == nullptr || stream != captured_stream) return cudaErrorIllegalState;
  *graph = reinterpret_cast<cudaGraph_t>(captured.release());
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = Of(graph)->size();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete Of(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = reinterpret_cast<cudaGraphExec_t>(new Works(*Of(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete Of(exec);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  if (captured != nullptr) return cudaErrorStreamCaptureUnsupported;
  ++launches;
  for (const std::function<void()>& work : *Of(exec)) {
    work();
    ++nodes;
  }
  return cudaSuccess;
}

}  // extern "C"
