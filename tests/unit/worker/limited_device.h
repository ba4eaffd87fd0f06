// SPDX-License-Identifier: Apache-2.0
// A device with only so much memory, which counts what it gives; all else is another device's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/device/device.h"

namespace lockstep {

class LimitedDevice final : public Device {
 public:
  LimitedDevice(std::unique_ptr<Device> inner, int64_t limit) : inner_(std::move(inner)), limit_(limit) {}

  // Bytes that were asked for and given.
  int64_t allocated() const { return allocated_; }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    const auto wanted = static_cast<int64_t>(bytes);
    if (wanted > limit_ - allocated_) {
      return absl::ResourceExhaustedError(
          absl::StrCat(wanted, " bytes wanted, but ", limit_ - allocated_, " of ", limit_, " are left"));
    }
    allocated_ += wanted;
    return inner_->Allocate(bytes);
  }

  std::string Description() const override { return inner_->Description(); }
  void CopyFromHost(void* to, const void* from, size_t bytes) override { inner_->CopyFromHost(to, from, bytes); }
  void CopyToHost(void* to, const void* from, size_t bytes) override { inner_->CopyToHost(to, from, bytes); }
  void Synchronize() override { inner_->Synchronize(); }
  bool host_accessible() const override { return inner_->host_accessible(); }
  StepRecorder* recorder() override { return inner_->recorder(); }
  Uploads* uploads() override { return inner_->uploads(); }
  void Copy(Tensor from, Tensor to) override { inner_->Copy(from, to); }
  void Fill(Tensor out, double value) override { inner_->Fill(out, value); }
  Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const override {
    return inner_->ImageLayout(args, x, kernel, type);
  }
  int64_t LayoutElements(const Shape& images, Layout layout) const override {
    return inner_->LayoutElements(images, layout);
  }
  void Relayout(Tensor from, Tensor to) override { inner_->Relayout(from, to); }
  void Add(Tensor a, Tensor b, Tensor out) override { inner_->Add(a, b, out); }
  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    inner_->RandomUniform(out, stream, low, high);
  }
  void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) override {
    inner_->RandomNormal(out, stream, args);
  }
  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    inner_->GatherRows(rows, indices, args, out);
  }
  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override { inner_->GatherLabels(labels, indices, out); }
  DType FactorType(ProductPrecision precision) const override { return inner_->FactorType(precision); }
  void Round(Tensor from, Tensor to) override { inner_->Round(from, to); }
  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    inner_->Gemm(args, a, b, bias, out);
  }
  void SumRows(Tensor dy, Tensor out) override { inner_->SumRows(dy, out); }
  void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) override {
    inner_->ActivationForward(args, x, y);
  }
  void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) override {
    inner_->ActivationBackward(args, x, y, dy, dx);
  }
  void SoftmaxForward(Tensor x, Tensor y) override { inner_->SoftmaxForward(x, y); }
  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override { inner_->SoftmaxBackward(y, dy, dx); }
  void LogSoftmaxForward(Tensor x, Tensor y) override { inner_->LogSoftmaxForward(x, y); }
  void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override { inner_->LogSoftmaxBackward(y, dy, dx); }
  void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout, int64_t blocks,
                  int64_t width, bool add) override {
    inner_->CopyBlocks(from, from_layout, to, to_layout, blocks, width, add);
  }
  void Convert(Tensor from, double scale, Tensor to) override { inner_->Convert(from, scale, to); }
  void Blend(double keep, Tensor from, Tensor to) override { inner_->Blend(keep, from, to); }
  void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, const ActivationArgs& activation,
                   Tensor y) override {
    inner_->ConvForward(args, x, kernel, bias, activation, y);
  }
  void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before, Tensor x,
                         Tensor dx) override {
    inner_->ConvBackwardInput(args, dy, kernel, before, x, dx);
  }
  void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) override {
    inner_->ConvBackwardKernel(args, x, dy, dkernel, dbias);
  }
  void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) override {
    inner_->PoolForward(kind, args, x, y);
  }
  void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy, const ActivationArgs& before,
                    Tensor dx) override {
    inner_->PoolBackward(kind, args, x, y, dy, before, dx);
  }
  void ChannelSums(Tensor x, Tensor sums) override { inner_->ChannelSums(x, sums); }
  void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) override {
    inner_->ChannelStatistics(sums, count, epsilon, statistics);
  }
  void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) override {
    inner_->MovingStatistics(mean, variance, epsilon, statistics);
  }
  void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta, const ActivationArgs& activation,
                          Tensor y) override {
    inner_->ChannelNormForward(x, statistics, gamma, beta, activation, y);
  }
  void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) override {
    inner_->ChannelNormSums(x, statistics, dy, sums);
  }
  void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                           Tensor dx) override {
    inner_->ChannelNormBackward(x, statistics, gamma, sums, count, dy, dx);
  }
  void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                      Tensor y) override {
    inner_->RowNormForward(args, x, gamma, beta, statistics, y);
  }
  void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                       Tensor dgamma, Tensor dbeta) override {
    inner_->RowNormBackward(args, x, gamma, statistics, dy, dx, dgamma, dbeta);
  }
  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    inner_->Dropout(x, rate, stream, first_row, y);
  }
  void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale, Tensor dlogits,
                           Tensor sum) override {
    inner_->SoftmaxCrossEntropy(args, logits, targets, scale, dlogits, sum);
  }
  void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                    Tensor dprobabilities, Tensor sum) override {
    inner_->CrossEntropy(args, probabilities, targets, scale, dprobabilities, sum);
  }
  void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                   Tensor sum) override {
    inner_->ElementLoss(args, predictions, targets, scale, dpredictions, sum);
  }
  void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) override {
    inner_->CountTopK(outputs, targets, k, sum);
  }
  void CountClasses(Tensor outputs, Tensor targets, Tensor sums) override {
    inner_->CountClasses(outputs, targets, sums);
  }
  void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) override {
    inner_->CountConfusion(outputs, targets, sums);
  }
  void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) override {
    inner_->CountSides(outputs, targets, threshold, sums);
  }
  void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) override {
    inner_->ScoreHistogram(outputs, kind, targets, sums);
  }
  void SumErrors(Tensor predictions, Tensor targets, Tensor sums) override {
    inner_->SumErrors(predictions, targets, sums);
  }
  void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                   std::span<const Tensor> state) override {
    inner_->ApplyUpdate(rule, args, w, gradient, state);
  }
  void SumSquares(Tensor x, Tensor out) override { inner_->SumSquares(x, out); }
  void CheckFinite(Tensor x, Tensor flag) override { inner_->CheckFinite(x, flag); }

 private:
  const std::unique_ptr<Device> inner_;
  const int64_t limit_;
  int64_t allocated_ = 0;
};

}  // namespace lockstep
