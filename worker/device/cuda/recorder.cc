// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/recorder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/device/cuda/samples.h"

namespace lockstep::cuda {

namespace {

constexpr int64_t kMaxSteps = 1024;
// Of the arguments of a run's updates.
constexpr int64_t kMaxUpdateBytes = int64_t{16} << 20;
// Of what runs keep, where it is small: else they end where there is something to keep.
constexpr size_t kMaxKeptBytes = size_t{16} << 20;
// A graph of several steps has no more than so many operations, nor so many steps: enough that its launch costs little.
constexpr size_t kMaxNodes = 2048;
constexpr int64_t kMaxStepsOfGraph = 16;
// Of the cursor, so that what lies behind it is aligned.
constexpr size_t kCursorBytes = 64;
static_assert(sizeof(StepCursor) <= kCursorBytes);

void Destroy(cudaGraphExec_t& graph) {
  if (graph != nullptr) static_cast<void>(cudaGraphExecDestroy(graph));
  graph = nullptr;
}

}  // namespace

Recorder::~Recorder() {
  Forget();
  FreeMemory();
}

absl::Status Recorder::status() const {
  return context_.failure.ok() ? absl::OkStatus() : absl::InternalError(context_.failure.text());
}

void Recorder::Forget() {
  Destroy(one_);
  Destroy(many_);
}

bool Recorder::ready() const { return one_ != nullptr && growths_ == context_.workspace.growths(); }

void Recorder::FreeMemory() {
  static_cast<void>(cudaFree(std::exchange(progress_, nullptr)));
  static_cast<void>(cudaFree(std::exchange(updates_, nullptr)));
  static_cast<void>(cudaFreeHost(std::exchange(host_progress_, nullptr)));
  static_cast<void>(cudaFreeHost(std::exchange(host_updates_, nullptr)));
  static_cast<void>(cudaFreeHost(std::exchange(host_kept_, nullptr)));
  if (over_ != nullptr) static_cast<void>(cudaEventDestroy(std::exchange(over_, nullptr)));
  memory_results_ = memory_updates_ = -1;
}

absl::Status Recorder::TakeMemory() {
  const size_t kept = step_.keep_every > 0 ? step_.kept.bytes() : 0;
  if (memory_results_ == step_.results && memory_updates_ == updates_per_step_ && memory_kept_ == kept) {
    return absl::OkStatus();
  }
  FreeMemory();
  const auto row = std::max<int64_t>(1, updates_per_step_ * static_cast<int64_t>(sizeof(UpdateArgs)));
  max_steps_ = std::clamp<int64_t>(kMaxUpdateBytes / row, 1, kMaxSteps);
  max_kept_ = kept == 0 ? 0 : std::min(max_steps_ / step_.keep_every, static_cast<int64_t>(kMaxKeptBytes / kept));
  const size_t all_kept = static_cast<size_t>(max_kept_) * kept;
  const size_t progress = kCursorBytes + static_cast<size_t>(max_steps_ * step_.results) * sizeof(double);
  const auto updates = static_cast<size_t>(max_steps_ * row);
  const auto take = [](cudaError_t (*allocate)(void**, size_t), size_t bytes, auto*& to) {
    void* data = nullptr;
    if (allocate(&data, bytes) != cudaSuccess) return false;
    to = static_cast<std::remove_reference_t<decltype(to)>>(data);
    return true;
  };
  const auto on_gpu = [](void** data, size_t bytes) { return cudaMalloc(data, bytes); };
  const auto on_host = [](void** data, size_t bytes) { return cudaMallocHost(data, bytes); };
  if (!LOCKSTEP_CUDA_CHECK(context_, cudaEventCreateWithFlags(&over_, cudaEventDisableTiming))) return status();
  if (!take(on_gpu, progress, progress_) || !take(on_gpu, updates, updates_) ||
      !take(on_host, progress, host_progress_) || !take(on_host, updates, host_updates_) ||
      (all_kept > 0 && !take(on_host, all_kept, host_kept_))) {
    // Not an error of the calls that come.
    static_cast<void>(cudaGetLastError());
    FreeMemory();
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", progress + updates, " bytes on the GPU and ",
                                                     progress + updates + all_kept, " on the host for recorded steps"));
  }
  memory_results_ = step_.results;
  memory_updates_ = updates_per_step_;
  memory_kept_ = kept;
  return absl::OkStatus();
}

absl::Status Recorder::Record(RecordedStep step) {
  Forget();
  step_ = std::move(step);
  updates_per_step_ = CountUpdates();
  LOCKSTEP_RETURN_IF_ERROR(TakeMemory());
  LOCKSTEP_RETURN_IF_ERROR(Capture(1, one_));
  if (steps_of_many_ > 1) LOCKSTEP_RETURN_IF_ERROR(Capture(steps_of_many_, many_));
  growths_ = context_.workspace.growths();
  return absl::OkStatus();
}

absl::Status Recorder::Capture(int64_t steps, cudaGraphExec_t& graph) {
  // Another thread's calls are its own business.
  if (!LOCKSTEP_CUDA_CHECK(context_, cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeRelaxed))) {
    return status();
  }
  absl::Status result;
  for (int64_t i = 0; i < steps && result.ok(); ++i) {
    context_.recording = {.cursor = reinterpret_cast<StepCursor*>(progress_),
                          .step = step_.step,
                          .updates = {updates_, updates_per_step_}};
    result = step_.body();
    if (result.ok()) step_.update(step_.step);
  }
  context_.recording = {};
  cudaGraph_t captured = nullptr;
  LOCKSTEP_CUDA_CHECK(context_, cudaStreamEndCapture(context_.stream, &captured));
  size_t nodes = 0;
  if (result.ok() && captured != nullptr &&
      LOCKSTEP_CUDA_CHECK(context_, cudaGraphGetNodes(captured, nullptr, &nodes))) {
    LOCKSTEP_CUDA_CHECK(context_, cudaGraphInstantiate(&graph, captured, 0));
  }
  if (captured != nullptr) static_cast<void>(cudaGraphDestroy(captured));
  LOCKSTEP_RETURN_IF_ERROR(result);
  if (steps == 1) {
    const auto fit = static_cast<int64_t>(kMaxNodes / std::max<size_t>(1, nodes));
    steps_of_many_ = std::clamp<int64_t>(fit, 1, std::min(kMaxStepsOfGraph, max_steps_));
  }
  return status();
}

void Recorder::GatherSamples(const SampleTable& table, int64_t first, Tensor inputs, Tensor targets) {
  cuda::GatherSamples(context_, table, first, inputs, targets);
}

void Recorder::Decide(Tensor sums, Tensor extra, Tensor flag, Tensor gradient) {
  cuda::Decide(context_, sums, extra, flag, gradient, reinterpret_cast<double*>(progress_ + kCursorBytes));
  context_.recording.decided = true;
}

int64_t Recorder::CountUpdates() {
  UpdateArgs nowhere;
  context_.recording = {.collected = &nowhere};
  step_.update(step_.step);
  return std::exchange(context_.recording, {}).next_update;
}

bool Recorder::Collect(int64_t row, int64_t step) {
  context_.recording = {.updates = {nullptr, updates_per_step_}, .collected = host_updates_ + row * updates_per_step_};
  step_.update(step);
  if (std::exchange(context_.recording, {}).next_update == updates_per_step_) return true;
  context_.failure.Note("StepRecorder::Start", __FILE__, __LINE__, "a step has more updates than recorded, or fewer");
  return false;
}

bool Recorder::Launch(cudaGraphExec_t graph, int64_t steps, int64_t first, int64_t at) {
  for (int64_t i = at; i < at + steps; ++i) {
    if (!Collect(i, first + i)) return false;
  }
  const int64_t offset = at * updates_per_step_;
  const size_t bytes = static_cast<size_t>(steps * updates_per_step_) * sizeof(UpdateArgs);
  if (bytes > 0 && !LOCKSTEP_CUDA_CHECK(context_, cudaMemcpyAsync(updates_ + offset, host_updates_ + offset, bytes,
                                                                  cudaMemcpyHostToDevice, context_.stream))) {
    return false;
  }
  return LOCKSTEP_CUDA_CHECK(context_, cudaGraphLaunch(graph, context_.stream));
}

bool Recorder::Keep(int64_t place) {
  if (place >= max_kept_) {
    context_.failure.Note("StepRecorder::Start", __FILE__, __LINE__, "a run keeps more than there is room for");
    return false;
  }
  const size_t bytes = step_.kept.bytes();
  return LOCKSTEP_CUDA_CHECK(context_, cudaMemcpyAsync(host_kept_ + static_cast<size_t>(place) * bytes, step_.kept.data,
                                                       bytes, cudaMemcpyDeviceToHost, context_.stream));
}

int64_t Recorder::UntilKept(int64_t step, int64_t count) const {
  return step_.keep_every > 0 ? std::min(count, step_.keep_every - step % step_.keep_every) : count;
}

absl::Status Recorder::Start(int64_t first, int64_t count) {
  if (!ready() || count < 1 || count > max_steps_) {
    return absl::FailedPreconditionError(absl::StrCat("a run of ", count, " steps, of which nothing is recorded"));
  }
  const StepCursor cursor{.step = first};
  std::memcpy(host_progress_, &cursor, sizeof(cursor));
  bool enqueued = LOCKSTEP_CUDA_CHECK(
      context_, cudaMemcpyAsync(progress_, host_progress_, sizeof(cursor), cudaMemcpyHostToDevice, context_.stream));
  // While the GPU does some steps, the arguments of the next ones are worked out.
  int64_t times_kept = 0;
  for (int64_t at = 0; at < count && enqueued;) {
    const int64_t left = UntilKept(first + at, count - at);
    const bool many = many_ != nullptr && left >= steps_of_many_;
    const int64_t steps = many ? steps_of_many_ : 1;
    enqueued = Launch(many ? many_ : one_, steps, first, at);
    at += steps;
    if (enqueued && steps == left && at < count) enqueued = Keep(times_kept++);
  }
  count_ = count;
  const size_t bytes = kCursorBytes + static_cast<size_t>(count * step_.results) * sizeof(double);
  if (enqueued && LOCKSTEP_CUDA_CHECK(context_, cudaMemcpyAsync(host_progress_, progress_, bytes,
                                                                cudaMemcpyDeviceToHost, context_.stream))) {
    LOCKSTEP_CUDA_CHECK(context_, cudaEventRecord(over_, context_.stream));
  }
  return status();
}

absl::StatusOr<bool> Recorder::Reached() {
  const cudaError_t answer = cudaEventQuery(over_);
  if (answer == cudaErrorNotReady) {
    // Else the next launch would be told of it.
    static_cast<void>(cudaGetLastError());
    return false;
  }
  if (LOCKSTEP_CUDA_CHECK(context_, answer)) return true;
  return status();
}

absl::StatusOr<int64_t> Recorder::Finish(std::span<double> results) {
  if (!LOCKSTEP_CUDA_CHECK(context_, cudaEventSynchronize(over_))) return status();
  StepCursor cursor;
  std::memcpy(&cursor, host_progress_, sizeof(cursor));
  const size_t numbers = static_cast<size_t>(cursor.done * step_.results);
  if (cursor.done > count_ || numbers > results.size()) {
    return absl::InternalError(absl::StrCat("the GPU says that ", cursor.done, " steps of ", count_, " are done"));
  }
  std::memcpy(results.data(), host_progress_ + kCursorBytes, numbers * sizeof(double));
  return cursor.done;
}

}  // namespace lockstep::cuda
