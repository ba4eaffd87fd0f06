// SPDX-License-Identifier: Apache-2.0
// FarDevice: a device whose memory the host cannot touch, for tests without a GPU. The CPU device computes, in memory
// that is open only while a call of the device lasts: a host that looks at it dies there and then. A tensor that does
// not lie in the device's memory ends the program too.
#pragma once

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tests/unit/worker/far_recorder.h"
#include "tests/unit/worker/far_uploads.h"
#include "worker/device/device.h"

namespace lockstep {

class FarDevice final : public Device {
 public:
  explicit FarDevice(int threads = 1) : cpu_(MakeCpuDevice(threads)) {
    void* memory = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    memory_ = static_cast<std::byte*>(memory);
  }
  ~FarDevice() override { munmap(memory_, kBytes); }
  FarDevice(const FarDevice&) = delete;
  FarDevice& operator=(const FarDevice&) = delete;

  std::string Description() const override { return "far " + cpu_->Description(); }
  absl::Status status() const override { return status_; }
  // From now on as a GPU that fell off its bus.
  void Break() { status_ = absl::InternalError("the GPU failed: it fell off the bus"); }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    // Memory is taken once, and zero then; what is freed is not used again.
    const size_t rounded = (bytes + 63) / 64 * 64 + 64;
    if (rounded > kBytes - used_) return absl::ResourceExhaustedError("the far device's memory is full");
    auto buffer = std::make_unique<FarBuffer>(memory_ + used_, bytes);
    used_ += rounded;
    return buffer;
  }
  void CopyFromHost(void* to, const void* from, size_t bytes) override {
    Check(to, bytes);
    In({}, [&] { std::memcpy(to, from, bytes); });
  }
  void CopyToHost(void* to, const void* from, size_t bytes) override {
    Check(from, bytes);
    In({}, [&] { std::memcpy(to, from, bytes); });
  }
  void Synchronize() override {}
  bool host_accessible() const override { return false; }
  StepRecorder* recorder() override { return &recorder_; }
  Uploads* uploads() override { return &uploads_; }

  Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const override {
    return cpu_->ImageLayout(args, x, kernel, type);
  }
  int64_t LayoutElements(const Shape& images, Layout layout) const override {
    return cpu_->LayoutElements(images, layout);
  }

  void Copy(Tensor from, Tensor to) override {
    if (recorder_.halted()) return;
    In({from, to}, [&] { cpu_->Copy(from, to); });
  }
  void Fill(Tensor out, double value) override {
    if (recorder_.halted()) return;
    In({out}, [&] { cpu_->Fill(out, value); });
  }
  void Relayout(Tensor from, Tensor to) override {
    In({from, to}, [&] { cpu_->Relayout(from, to); });
  }
  void Add(Tensor a, Tensor b, Tensor out) override {
    if (recorder_.halted()) return;
    In({a, b, out}, [&] { cpu_->Add(a, b, out); });
  }
  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    In({out}, [&] { cpu_->RandomUniform(out, stream, low, high); });
  }
  void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) override {
    In({out}, [&] { cpu_->RandomNormal(out, stream, args); });
  }
  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    In({rows, indices, out}, [&] { cpu_->GatherRows(rows, indices, args, out); });
  }
  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override {
    In({labels, indices, out}, [&] { cpu_->GatherLabels(labels, indices, out); });
  }
  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    In({a, b, bias, out, args.row_sums, args.source, args.mask}, [&] { cpu_->Gemm(args, a, b, bias, out); });
  }
  void SumRows(Tensor dy, Tensor out) override {
    In({dy, out}, [&] { cpu_->SumRows(dy, out); });
  }
  void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) override {
    In({x, y}, [&] { cpu_->ActivationForward(args, x, y); });
  }
  void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) override {
    In({x, y, dy, dx}, [&] { cpu_->ActivationBackward(args, x, y, dy, dx); });
  }
  void SoftmaxForward(Tensor x, Tensor y) override {
    In({x, y}, [&] { cpu_->SoftmaxForward(x, y); });
  }
  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    In({y, dy, dx}, [&] { cpu_->SoftmaxBackward(y, dy, dx); });
  }
  void LogSoftmaxForward(Tensor x, Tensor y) override {
    In({x, y}, [&] { cpu_->LogSoftmaxForward(x, y); });
  }
  void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    In({y, dy, dx}, [&] { cpu_->LogSoftmaxBackward(y, dy, dx); });
  }
  void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout, int64_t blocks,
                  int64_t width, bool add) override {
    In({from, to}, [&] { cpu_->CopyBlocks(from, from_layout, to, to_layout, blocks, width, add); });
  }
  void Convert(Tensor from, double scale, Tensor to) override {
    In({from, to}, [&] { cpu_->Convert(from, scale, to); });
  }
  void Blend(double keep, Tensor from, Tensor to) override {
    if (recorder_.halted()) return;
    In({from, to}, [&] { cpu_->Blend(keep, from, to); });
  }
  void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, const ActivationArgs& activation,
                   Tensor y) override {
    In({x, kernel, bias, y}, [&] { cpu_->ConvForward(args, x, kernel, bias, activation, y); });
  }
  void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before, Tensor x,
                         Tensor dx) override {
    In({dy, kernel, x, dx}, [&] { cpu_->ConvBackwardInput(args, dy, kernel, before, x, dx); });
  }
  void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) override {
    In({x, dy, dkernel, dbias}, [&] { cpu_->ConvBackwardKernel(args, x, dy, dkernel, dbias); });
  }
  void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) override {
    In({x, y}, [&] { cpu_->PoolForward(kind, args, x, y); });
  }
  void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy, const ActivationArgs& before,
                    Tensor dx) override {
    In({x, y, dy, dx}, [&] { cpu_->PoolBackward(kind, args, x, y, dy, before, dx); });
  }
  void ChannelSums(Tensor x, Tensor sums) override {
    In({x, sums}, [&] { cpu_->ChannelSums(x, sums); });
  }
  void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) override {
    In({sums, statistics}, [&] { cpu_->ChannelStatistics(sums, count, epsilon, statistics); });
  }
  void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) override {
    In({mean, variance, statistics}, [&] { cpu_->MovingStatistics(mean, variance, epsilon, statistics); });
  }
  void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta, const ActivationArgs& activation,
                          Tensor y) override {
    In({x, statistics, gamma, beta, y}, [&] { cpu_->ChannelNormForward(x, statistics, gamma, beta, activation, y); });
  }
  void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) override {
    In({x, statistics, dy, sums}, [&] { cpu_->ChannelNormSums(x, statistics, dy, sums); });
  }
  void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                           Tensor dx) override {
    In({x, statistics, gamma, sums, dy, dx},
       [&] { cpu_->ChannelNormBackward(x, statistics, gamma, sums, count, dy, dx); });
  }
  void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                      Tensor y) override {
    In({x, gamma, beta, statistics, y}, [&] { cpu_->RowNormForward(args, x, gamma, beta, statistics, y); });
  }
  void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                       Tensor dgamma, Tensor dbeta) override {
    In({x, gamma, statistics, dy, dx, dgamma, dbeta},
       [&] { cpu_->RowNormBackward(args, x, gamma, statistics, dy, dx, dgamma, dbeta); });
  }
  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    In({x, y}, [&] { cpu_->Dropout(x, rate, recorder_.OfRunningStep(stream), first_row, y); });
  }
  void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale, Tensor dlogits,
                           Tensor sum) override {
    In({args.class_weights, logits, targets, dlogits, sum},
       [&] { cpu_->SoftmaxCrossEntropy(args, logits, targets, scale, dlogits, sum); });
  }
  void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                    Tensor dprobabilities, Tensor sum) override {
    In({args.class_weights, probabilities, targets, dprobabilities, sum},
       [&] { cpu_->CrossEntropy(args, probabilities, targets, scale, dprobabilities, sum); });
  }
  void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                   Tensor sum) override {
    In({predictions, targets, dpredictions, sum},
       [&] { cpu_->ElementLoss(args, predictions, targets, scale, dpredictions, sum); });
  }
  void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) override {
    In({outputs, targets, sum}, [&] { cpu_->CountTopK(outputs, targets, k, sum); });
  }
  void CountClasses(Tensor outputs, Tensor targets, Tensor sums) override {
    In({outputs, targets, sums}, [&] { cpu_->CountClasses(outputs, targets, sums); });
  }
  void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) override {
    In({outputs, targets, sums}, [&] { cpu_->CountConfusion(outputs, targets, sums); });
  }
  void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) override {
    In({outputs, targets, sums}, [&] { cpu_->CountSides(outputs, targets, threshold, sums); });
  }
  void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) override {
    In({outputs, targets, sums}, [&] { cpu_->ScoreHistogram(outputs, kind, targets, sums); });
  }
  void SumErrors(Tensor predictions, Tensor targets, Tensor sums) override {
    In({predictions, targets, sums}, [&] { cpu_->SumErrors(predictions, targets, sums); });
  }
  void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                   std::span<const Tensor> state) override {
    if (recorder_.halted()) return;
    for (const Tensor& t : state) Check(t);
    In({args.norms, w, gradient}, [&] { cpu_->ApplyUpdate(rule, args, w, gradient, state); });
  }
  void SumSquares(Tensor x, Tensor out) override {
    In({x, out}, [&] { cpu_->SumSquares(x, out); });
  }
  void CheckFinite(Tensor x, Tensor flag) override {
    In({x, flag}, [&] { cpu_->CheckFinite(x, flag); });
  }

 private:
  // Reserved, not used.
  static constexpr size_t kBytes = size_t{256} << 20;

  class FarBuffer final : public Buffer {
   public:
    FarBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
    void* data() const override { return data_; }
    size_t bytes() const override { return bytes_; }

   private:
    void* data_;
    size_t bytes_;
  };

  void Check(const void* data, size_t bytes) const {
    const auto* begin = static_cast<const std::byte*>(data);
    if (data == nullptr || bytes == 0 || (begin >= memory_ && begin + bytes <= memory_ + used_)) return;
    std::fprintf(stderr, "the device was given memory that is not its own\n");
    std::abort();
  }
  void Check(const Tensor& t) const { Check(t.data, t.bytes()); }

  template <typename F>
  void In(std::initializer_list<Tensor> tensors, const F& compute) {
    for (const Tensor& t : tensors) Check(t);
    mprotect(memory_, kBytes, PROT_READ | PROT_WRITE);
    compute();
    mprotect(memory_, kBytes, PROT_NONE);
  }

  FarRecorder recorder_{this};
  FarUploads uploads_{this};
  std::unique_ptr<Device> cpu_;
  std::byte* memory_ = nullptr;
  size_t used_ = 0;
  absl::Status status_;
};

}  // namespace lockstep
