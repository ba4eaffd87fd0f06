// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/staged_device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "worker/device/dense_chain.h"

namespace lockstep {

namespace {

using Bytes = std::unique_ptr<char, decltype(&std::free)>;

Bytes HostBytes(size_t bytes) {
  Bytes memory(static_cast<char*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64)), &std::free);
  std::memset(memory.get(), 0, bytes);
  return memory;
}

// Buffers by their first byte. Owned by the device, which outlives them.
using Twins = std::map<const char*, Buffer*>;

class StagedBuffer final : public Buffer {
 public:
  StagedBuffer(std::unique_ptr<Buffer> twin, Twins& twins)
      : twin_(std::move(twin)), memory_(HostBytes(twin_->bytes())), twins_(twins) {
    twins_.emplace(memory_.get(), twin_.get());
  }
  ~StagedBuffer() override { twins_.erase(memory_.get()); }
  void* data() const override { return memory_.get(); }
  size_t bytes() const override { return twin_->bytes(); }

 private:
  std::unique_ptr<Buffer> twin_;
  Bytes memory_;
  Twins& twins_;
};

// One call: what it names, on its way to the device and back.
class Call {
 public:
  Call(Device& device, const Twins& twins) : device_(device), twins_(twins) {}
  ~Call() {
    for (const Copy& copy : copies_) device_.CopyToHost(copy.host, copy.twin, copy.bytes);
    device_.Synchronize();
    const absl::Status status = device_.status();
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::abort();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The same tensor on the device.
  Tensor operator()(Tensor t) {
    if (t.data == nullptr) return t;
    char* const data = t.as<char>();
    auto found = twins_.upper_bound(data);
    if (found != twins_.begin()) {
      --found;
      char* const begin = const_cast<char*>(found->first);
      if (data <= begin + found->second->bytes()) {
        Send(begin, found->second->data(), found->second->bytes());
        t.data = static_cast<char*>(found->second->data()) + (data - begin);
        return t;
      }
    }
    for (const Copy& copy : copies_) {
      if (copy.host != data || copy.bytes < t.bytes()) continue;
      t.data = copy.twin;
      return t;
    }
    foreign_.push_back(device_.Allocate(std::max<size_t>(t.bytes(), 1)).value());
    Send(data, foreign_.back()->data(), t.bytes());
    t.data = foreign_.back()->data();
    return t;
  }

 private:
  struct Copy {
    char* host;
    void* twin;
    size_t bytes;
  };
  // Once for a call, though several tensors lie in one buffer.
  void Send(char* host, void* twin, size_t bytes) {
    const auto same = [&](const Copy& c) { return c.host == host && c.twin == twin; };
    if (std::any_of(copies_.begin(), copies_.end(), same)) return;
    device_.CopyFromHost(twin, host, bytes);
    copies_.push_back({host, twin, bytes});
  }

  Device& device_;
  const Twins& twins_;
  std::vector<Copy> copies_;
  std::list<std::unique_ptr<Buffer>> foreign_;
};

class StagedDevice final : public Device {
 public:
  explicit StagedDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  std::string Description() const override { return device_->Description(); }
  absl::Status status() const override { return device_->status(); }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    auto twin = device_->Allocate(bytes);
    if (!twin.ok()) return twin.status();
    return std::make_unique<StagedBuffer>(std::move(*twin), twins_);
  }
  void CopyFromHost(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void CopyToHost(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void Synchronize() override { device_->Synchronize(); }
  bool host_accessible() const override { return true; }
  Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const override {
    return device_->ImageLayout(args, x, kernel, type);
  }
  int64_t LayoutElements(const Shape& images, Layout layout) const override {
    return device_->LayoutElements(images, layout);
  }

  void Copy(Tensor from, Tensor to) override {
    Do([&](Call& c) { device_->Copy(c(from), c(to)); });
  }
  void Fill(Tensor out, double value) override {
    Do([&](Call& c) { device_->Fill(c(out), value); });
  }
  void Relayout(Tensor from, Tensor to) override {
    Do([&](Call& c) { device_->Relayout(c(from), c(to)); });
  }
  void Add(Tensor a, Tensor b, Tensor out) override {
    Do([&](Call& c) { device_->Add(c(a), c(b), c(out)); });
  }
  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    Do([&](Call& c) { device_->RandomUniform(c(out), stream, low, high); });
  }
  void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) override {
    Do([&](Call& c) { device_->RandomNormal(c(out), stream, args); });
  }
  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    Do([&](Call& c) { device_->GatherRows(c(rows), c(indices), args, c(out)); });
  }
  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override {
    Do([&](Call& c) { device_->GatherLabels(c(labels), c(indices), c(out)); });
  }

  DType FactorType(ProductPrecision precision) const override { return device_->FactorType(precision); }
  void Round(Tensor from, Tensor to) override {
    Do([&](Call& c) { device_->Round(c(from), c(to)); });
  }
  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    Do([&](Call& c) {
      GemmArgs sent = args;
      for (Tensor* t : {&sent.row_sums, &sent.source, &sent.mask}) *t = c(*t);
      device_->Gemm(sent, c(a), c(b), c(bias), c(out));
    });
  }
  void SumRows(Tensor dy, Tensor out) override {
    Do([&](Call& c) { device_->SumRows(c(dy), c(out)); });
  }
  void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) override {
    Do([&](Call& c) { device_->ActivationForward(args, c(x), c(y)); });
  }
  void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) override {
    Do([&](Call& c) { device_->ActivationBackward(args, c(x), c(y), c(dy), c(dx)); });
  }
  void SoftmaxForward(Tensor x, Tensor y) override {
    Do([&](Call& c) { device_->SoftmaxForward(c(x), c(y)); });
  }
  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    Do([&](Call& c) { device_->SoftmaxBackward(c(y), c(dy), c(dx)); });
  }
  void LogSoftmaxForward(Tensor x, Tensor y) override {
    Do([&](Call& c) { device_->LogSoftmaxForward(c(x), c(y)); });
  }
  void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    Do([&](Call& c) { device_->LogSoftmaxBackward(c(y), c(dy), c(dx)); });
  }
  void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout, int64_t blocks,
                  int64_t width, bool add) override {
    Do([&](Call& c) { device_->CopyBlocks(c(from), from_layout, c(to), to_layout, blocks, width, add); });
  }
  void Convert(Tensor from, double scale, Tensor to) override {
    Do([&](Call& c) { device_->Convert(c(from), scale, c(to)); });
  }
  void Blend(double keep, Tensor from, Tensor to) override {
    Do([&](Call& c) { device_->Blend(keep, c(from), c(to)); });
  }

  void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, const ActivationArgs& activation,
                   Tensor y) override {
    Do([&](Call& c) { device_->ConvForward(args, c(x), c(kernel), c(bias), activation, c(y)); });
  }
  void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before, Tensor x,
                         Tensor dx) override {
    Do([&](Call& c) { device_->ConvBackwardInput(args, c(dy), c(kernel), before, c(x), c(dx)); });
  }
  void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) override {
    Do([&](Call& c) { device_->ConvBackwardKernel(args, c(x), c(dy), c(dkernel), c(dbias)); });
  }
  void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) override {
    Do([&](Call& c) { device_->PoolForward(kind, args, c(x), c(y)); });
  }
  void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy, const ActivationArgs& before,
                    Tensor dx) override {
    Do([&](Call& c) { device_->PoolBackward(kind, args, c(x), c(y), c(dy), before, c(dx)); });
  }

  void ChannelSums(Tensor x, Tensor sums) override {
    Do([&](Call& c) { device_->ChannelSums(c(x), c(sums)); });
  }
  void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) override {
    Do([&](Call& c) { device_->ChannelStatistics(c(sums), count, epsilon, c(statistics)); });
  }
  void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) override {
    Do([&](Call& c) { device_->MovingStatistics(c(mean), c(variance), epsilon, c(statistics)); });
  }
  void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta, const ActivationArgs& activation,
                          Tensor y) override {
    Do([&](Call& c) { device_->ChannelNormForward(c(x), c(statistics), c(gamma), c(beta), activation, c(y)); });
  }
  void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) override {
    Do([&](Call& c) { device_->ChannelNormSums(c(x), c(statistics), c(dy), c(sums)); });
  }
  void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                           Tensor dx) override {
    Do([&](Call& c) { device_->ChannelNormBackward(c(x), c(statistics), c(gamma), c(sums), count, c(dy), c(dx)); });
  }
  void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                      Tensor y) override {
    Do([&](Call& c) { device_->RowNormForward(args, c(x), c(gamma), c(beta), c(statistics), c(y)); });
  }
  void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                       Tensor dgamma, Tensor dbeta) override {
    Do([&](Call& c) {
      device_->RowNormBackward(args, c(x), c(gamma), c(statistics), c(dy), c(dx), c(dgamma), c(dbeta));
    });
  }
  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    Do([&](Call& c) { device_->Dropout(c(x), rate, stream, first_row, c(y)); });
  }

  void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale, Tensor dlogits,
                           Tensor sum) override {
    Do([&](Call& c) { device_->SoftmaxCrossEntropy(Sent(args, c), c(logits), c(targets), scale, c(dlogits), c(sum)); });
  }
  void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                    Tensor dprobabilities, Tensor sum) override {
    Do([&](Call& c) {
      device_->CrossEntropy(Sent(args, c), c(probabilities), c(targets), scale, c(dprobabilities), c(sum));
    });
  }
  bool TakesDenseChain(const DenseChain& chain) const override { return device_->TakesDenseChain(chain); }
  void RunDenseChain(const DenseChain& chain) override {
    Do([&](Call& c) {
      std::vector<ChainLayer> layers(chain.layers.begin(), chain.layers.end());
      for (ChainLayer& l : layers) {
        for (Tensor* t : {&l.kernel, &l.bias, &l.y, &l.dkernel, &l.dbias}) *t = c(*t);
      }
      DenseChain sent = chain;
      sent.layers = layers;
      sent.loss = Sent(chain.loss, c);
      for (Tensor* t : {&sent.x, &sent.gradient, &sent.targets, &sent.loss_sum, &sent.hits}) *t = c(*t);
      device_->RunDenseChain(sent);
    });
  }
  void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                   Tensor sum) override {
    Do([&](Call& c) { device_->ElementLoss(args, c(predictions), c(targets), scale, c(dpredictions), c(sum)); });
  }

  void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) override {
    Do([&](Call& c) { device_->CountTopK(c(outputs), c(targets), k, c(sum)); });
  }
  void CountClasses(Tensor outputs, Tensor targets, Tensor sums) override {
    Do([&](Call& c) { device_->CountClasses(c(outputs), c(targets), c(sums)); });
  }
  void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) override {
    Do([&](Call& c) { device_->CountConfusion(c(outputs), c(targets), c(sums)); });
  }
  void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) override {
    Do([&](Call& c) { device_->CountSides(c(outputs), c(targets), threshold, c(sums)); });
  }
  void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) override {
    Do([&](Call& c) { device_->ScoreHistogram(c(outputs), kind, c(targets), c(sums)); });
  }
  void SumErrors(Tensor predictions, Tensor targets, Tensor sums) override {
    Do([&](Call& c) { device_->SumErrors(c(predictions), c(targets), c(sums)); });
  }

  void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                   std::span<const Tensor> state) override {
    Do([&](Call& c) {
      UpdateArgs sent = args;
      sent.norms = c(args.norms);
      std::vector<Tensor> states;
      for (const Tensor& t : state) states.push_back(c(t));
      device_->ApplyUpdate(rule, sent, c(w), c(gradient), states);
    });
  }
  void SumSquares(Tensor x, Tensor out) override {
    Do([&](Call& c) { device_->SumSquares(c(x), c(out)); });
  }
  void CheckFinite(Tensor x, Tensor flag) override {
    Do([&](Call& c) { device_->CheckFinite(c(x), c(flag)); });
  }

 private:
  template <typename F>
  void Do(F f) {
    Call call(*device_, twins_);
    f(call);
  }
  static CrossEntropyArgs Sent(CrossEntropyArgs args, Call& call) {
    args.class_weights = call(args.class_weights);
    return args;
  }

  std::unique_ptr<Device> device_;
  Twins twins_;
};

}  // namespace

std::unique_ptr<Device> MakeStagedDevice(std::unique_ptr<Device> device) {
  return std::make_unique<StagedDevice>(std::move(device));
}

}  // namespace lockstep
