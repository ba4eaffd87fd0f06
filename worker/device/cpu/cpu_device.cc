// SPDX-License-Identifier: Apache-2.0
// The CPU: oneDNN for products, own loops (kernels.h) for the rest. Calls are done when they return.
#include <dnnl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/device/cpu/cpu_buffer.h"
#include "worker/device/cpu/cpu_columns.h"
#include "worker/device/cpu/cpu_conv.h"
#include "worker/device/cpu/cpu_gemm.h"
#include "worker/device/cpu/cpu_info.h"
#include "worker/device/cpu/cpu_lanes.h"
#include "worker/device/cpu/crossovers.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/losses.h"
#include "worker/device/cpu/metrics.h"
#include "worker/device/cpu/norms.h"
#include "worker/device/cpu/subnormals.h"
#include "worker/device/device.h"
#include "worker/device/math/random.h"

namespace lockstep {

namespace {

KernelChoice ForCore(KernelChoice kernels) {
  if (!cpu::PairsAreFast(kernels.core)) {
    kernels.large_bf16 = nullptr;
    kernels.lane_pairs = nullptr;
  }
  return kernels;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(const KernelChoice& kernels, int threads)
      : threads_(std::max(threads, 1)),
        kernels_(ForCore(kernels)),
        gemm_(kernels_, threads_),
        conv_(threads_),
        lanes_(kernels_, threads_) {
    cpu::FlushSubnormals();
  }

  std::string Description() const override {
    const dnnl_version_t* v = dnnl_version();
    return absl::StrCat("cpu ", HostCpu().model, ", ", kernels_.name, ", oneDNN ", v->major, ".", v->minor, ".",
                        v->patch, ", ", gemm_.Bf16Name(), ", ", threads_, threads_ == 1 ? " thread" : " threads");
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override { return cpu::AllocateHost(bytes); }

  void CopyFromHost(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void CopyToHost(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void Synchronize() override {}
  bool host_accessible() const override { return true; }

  void Copy(Tensor from, Tensor to) override { std::memcpy(to.data, from.data, from.bytes()); }
  void Fill(Tensor out, double value) override {
    const int64_t n = out.elements();
    switch (out.type) {
      case DType::kF32:
        std::fill_n(out.as<float>(), n, static_cast<float>(value));
        break;
      case DType::kF64:
        std::fill_n(out.as<double>(), n, value);
        break;
      case DType::kU8:
        std::fill_n(out.as<uint8_t>(), n, static_cast<uint8_t>(value));
        break;
      case DType::kI32:
        std::fill_n(out.as<int32_t>(), n, static_cast<int32_t>(value));
        break;
      case DType::kI64:
        std::fill_n(out.as<int64_t>(), n, static_cast<int64_t>(value));
        break;
      case DType::kBF16:
      case DType::kF16:
        // No factors lie in such memory here.
        break;
    }
  }
  Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const override {
    const bool lanes = type == DType::kF32 && cpu::PrefersLanes(args, x, kernel);
    return lanes ? Layout::kImages : Layout::kRowMajor;
  }
  int64_t LayoutElements(const Shape& images, Layout layout) const override {
    return layout == Layout::kImages ? cpu::LaneElements(images) : images.elements();
  }
  void Relayout(Tensor from, Tensor to) override {
    if (from.layout == to.layout) {
      std::memcpy(to.data, from.data, static_cast<size_t>(Elements(from)) * SizeOf(from.type));
    } else {
      lanes_.Relayout(from, to);
    }
  }
  void Add(Tensor a, Tensor b, Tensor out) override {
    Visit(out.type, [&]<typename T>(T, const auto& k) { k.add(a.as<T>(), b.as<T>(), out.as<T>(), Elements(out)); });
  }
  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    Visit(out.type, [&]<typename T>(T, const auto&) {
      const T base = static_cast<T>(low), span = static_cast<T>(high - low);
      for (int64_t i = 0; i < out.elements(); ++i) out.as<T>()[i] = base + span * static_cast<T>(stream.Uniform(i));
    });
  }
  void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) override {
    Visit(out.type, [&]<typename T>(T, const auto&) {
      for (int64_t i = 0; i < out.elements(); ++i) {
        const double z = math::NormalOf(stream.Word(static_cast<uint64_t>(i)), args.truncated);
        out.as<T>()[i] = static_cast<T>(args.mean + args.stddev * z);
      }
    });
  }
  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    const int64_t batch = out.shape[0], width = batch == 0 ? 0 : out.elements() / batch;
    Visit(out.type, [&]<typename T>(T, const auto& k) {
      const T scale = static_cast<T>(args.scale), offset = static_cast<T>(args.offset);
      const int64_t* at = indices.as<int64_t>();
      if (rows.type == DType::kU8) {
        k.gather_bytes(rows.as<uint8_t>(), at, batch, width, scale, offset, out.as<T>());
      } else {
        k.gather(rows.as<T>(), at, batch, width, scale, offset, out.as<T>());
      }
    });
  }
  SampleForm FormOfSamples(int64_t rows, int64_t width, int64_t n, ProductPrecision precision) const override {
    return gemm_.FormOfSamples(rows, width, n, precision);
  }
  void GatherColumns(Tensor rows, Tensor indices, const GatherArgs& args, ColumnList* columns, Tensor out) override {
    const auto gather = kernels_.gather_columns == nullptr ? cpu::GatherColumns : kernels_.gather_columns;
    columns->count = gather({.table = rows.as<uint8_t>(),
                             .indices = indices.as<int64_t>(),
                             .rows = indices.shape[0],
                             .width = out.shape[1],
                             .scale = args.scale,
                             .columns = columns->columns,
                             .out = out.as<float>()});
    columns->bound = std::abs(args.scale) * std::numeric_limits<uint8_t>::max();
  }
  void StepColumns(double step_size, Tensor x, Tensor dy, Tensor w) override { gemm_.StepColumns(step_size, x, dy, w); }
  bool ProductIsFinite(Tensor x, Tensor dy) const override {
    // No element of dy is larger than the root of all squares.
    const double largest = x.columns->bound * std::sqrt(kernels_.f32->sum_squares(dy.as<float>(), dy.elements()));
    return static_cast<double>(dy.shape[0]) * largest < std::numeric_limits<float>::max() / 2;
  }
  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override {
    for (int64_t i = 0; i < out.elements(); ++i) {
      out.as<int32_t>()[i] = labels.as<int32_t>()[indices.as<int64_t>()[i]];
    }
  }

  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    const int64_t m = out.shape[0], n = out.shape[1];
    if (m == 0 || n == 0) return;
    if (!gemm_.Run(args, a, b, bias, out) && (bias.data != nullptr || !args.activation.linear())) {
      Visit(out.type,
            [&]<typename T>(T, const auto& k) { k.bias_activation(args.activation, bias.as<T>(), m, n, out.as<T>()); });
    }
    if (args.row_sums.data != nullptr) SumRows(b, args.row_sums);
    if (!args.before.linear()) ActivationBackward(args.before, {}, args.source, out, out);
  }
  void SumRows(Tensor dy, Tensor out) override {
    Visit(out.type, [&]<typename T>(T, const auto& k) {
      k.sum_rows(dy.as<T>(), dy.elements() / out.elements(), out.elements(), out.as<T>());
    });
  }
  void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) override {
    if (y.data != x.data) Relayout(x, y);
    if (args.linear()) return;
    Visit(y.type, [&]<typename T>(T, const auto& k) { k.bias_activation(args, nullptr, 1, Elements(y), y.as<T>()); });
  }
  void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) override {
    Visit(y.type, [&]<typename T>(T, const auto& k) {
      k.activation_backward(args, x.as<T>(), y.as<T>(), dy.as<T>(), Elements(y), dx.as<T>());
    });
  }
  void SoftmaxForward(Tensor x, Tensor y) override {
    Visit(y.type, [&]<typename T>(T, const auto& k) { cpu::SoftmaxForward<T>(k, x, y); });
  }
  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    Visit(y.type, [&]<typename T>(T, const auto&) { cpu::SoftmaxBackward<T>(y, dy, dx); });
  }
  void LogSoftmaxForward(Tensor x, Tensor y) override {
    Visit(y.type, [&]<typename T>(T, const auto& k) { cpu::LogSoftmaxForward<T>(k, x, y); });
  }
  void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    Visit(y.type, [&]<typename T>(T, const auto&) { cpu::LogSoftmaxBackward<T>(y, dy, dx); });
  }
  void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout, int64_t blocks,
                  int64_t width, bool add) override {
    Visit(to.type, [&]<typename T>(T, const auto& k) {
      for (int64_t i = 0; i < blocks; ++i) {
        const T* source = from.as<T>() + from_layout.offset + i * from_layout.stride;
        T* target = to.as<T>() + to_layout.offset + i * to_layout.stride;
        if (add) {
          k.add(target, source, target, width);
        } else {
          std::memcpy(target, source, static_cast<size_t>(width) * sizeof(T));
        }
      }
    });
  }
  void Convert(Tensor from, double scale, Tensor to) override {
    Visit(to.type, [&]<typename T>(T, const auto&) {
      for (int64_t i = 0; i < to.elements(); ++i) to.as<T>()[i] = static_cast<T>(from.as<double>()[i] * scale);
    });
  }
  void Blend(double keep, Tensor from, Tensor to) override {
    Visit(to.type, [&]<typename T>(T, const auto& k) {
      k.norm_backward(to.as<T>(), from.as<T>(), to.elements(), static_cast<T>(1.0 - keep), static_cast<T>(keep), T(0),
                      to.as<T>());
    });
  }

  void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, const ActivationArgs& activation,
                   Tensor y) override {
    if (InLanes(y)) {
      if (lanes_.ConvForward(args, x, kernel, bias, activation, y)) return;
    } else {
      conv_.Forward(args, Factor(args, x, 0), Factor(args, kernel, 1), bias, y);
    }
    if (!activation.linear()) ActivationForward(activation, y, y);
  }
  void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before, Tensor x,
                         Tensor dx) override {
    if (InLanes(dx)) {
      if (lanes_.ConvBackwardInput(args, dy, kernel, before, x, dx)) return;
    } else {
      conv_.BackwardInput(args, Factor(args, dy, 0), Factor(args, kernel, 1), dx);
    }
    if (!before.linear()) ActivationBackward(before, {}, x, dx, dx);
  }
  void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) override {
    if (InLanes(x)) return lanes_.ConvBackwardKernel(args, x, dy, dkernel, dbias);
    conv_.BackwardKernel(args, Factor(args, x, 0), Factor(args, dy, 1), dkernel, dbias);
  }
  void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) override {
    if (InLanes(x)) return lanes_.PoolForward(kind, args, x, y);
    const PoolProblem problem = PoolOf(args, x, y);
    Visit(x.type, [&]<typename T>(T, const auto& k) {
      const auto forward = kind == Pooling::kMax ? k.max_pool_forward : k.average_pool_forward;
      forward(problem, x.as<T>(), y.as<T>());
    });
  }
  void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy, const ActivationArgs& before,
                    Tensor dx) override {
    if (InLanes(x)) {
      if (lanes_.PoolBackward(kind, args, x, y, dy, before, dx)) return;
    } else {
      PoolBackwardInOrder(kind, PoolOf(args, x, dy), x, y, dy, dx);
    }
    if (!before.linear()) ActivationBackward(before, {}, x, dx, dx);
  }
  void ChannelSums(Tensor x, Tensor sums) override {
    if (InLanes(x)) return lanes_.ChannelSums(x, sums);
    Visit(x.type, [&]<typename T>(T, const auto& k) { cpu::ChannelSums<T>(k, x, sums); });
  }
  void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) override {
    cpu::ChannelStatistics(sums, count, epsilon, statistics);
  }
  void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) override {
    Visit(mean.type,
          [&]<typename T>(T, const auto&) { cpu::MovingStatistics<T>(mean, variance, epsilon, statistics); });
  }
  void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta, const ActivationArgs& activation,
                          Tensor y) override {
    if (InLanes(x)) {
      lanes_.ChannelNormForward(x, statistics, gamma, beta, y);
    } else {
      Visit(x.type,
            [&]<typename T>(T, const auto& k) { cpu::ChannelNormForward<T>(k, x, statistics, gamma, beta, y); });
    }
    ActivationForward(activation, y, y);
  }
  void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) override {
    if (InLanes(x)) return lanes_.ChannelNormSums(x, statistics, dy, sums);
    Visit(x.type, [&]<typename T>(T, const auto& k) { cpu::ChannelNormSums<T>(k, x, statistics, dy, sums); });
  }
  void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                           Tensor dx) override {
    if (InLanes(x)) return lanes_.ChannelNormBackward(x, statistics, gamma, sums, count, dy, dx);
    Visit(x.type, [&]<typename T>(T, const auto& k) {
      cpu::ChannelNormBackward<T>(k, x, statistics, gamma, sums, count, dy, dx);
    });
  }
  void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                      Tensor y) override {
    Visit(x.type,
          [&]<typename T>(T, const auto& k) { cpu::RowNormForward<T>(k, args, x, gamma, beta, statistics, y); });
  }
  void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                       Tensor dgamma, Tensor dbeta) override {
    Visit(x.type, [&]<typename T>(T, const auto&) {
      cpu::RowNormBackward<T>(args, x, gamma, statistics, dy, dx, dgamma, dbeta);
    });
  }

  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    const int64_t rows = x.shape[0], width = rows == 0 ? 0 : x.elements() / rows;
    Visit(x.type, [&]<typename T>(T, const auto& k) {
      k.dropout(x.as<T>(), rows, width, static_cast<T>(rate), stream, first_row, y.as<T>());
    });
  }

  void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale, Tensor dlogits,
                           Tensor sum) override {
    Visit(logits.type, [&]<typename T>(T, const auto& k) {
      cpu::SoftmaxCrossEntropy<T>(k, args, logits, targets, scale, dlogits, sum);
    });
  }
  void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                    Tensor dprobabilities, Tensor sum) override {
    Visit(probabilities.type, [&]<typename T>(T, const auto&) {
      cpu::CrossEntropy<T>(args, probabilities, targets, scale, dprobabilities, sum);
    });
  }
  void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                   Tensor sum) override {
    Visit(predictions.type, [&]<typename T>(T, const auto&) {
      cpu::ElementLoss<T>(args, predictions, targets, scale, dpredictions, sum);
    });
  }

  void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) override {
    Visit(outputs.type, [&]<typename T>(T, const auto&) { cpu::CountTopK<T>(outputs, targets, k, sum); });
  }
  void CountClasses(Tensor outputs, Tensor targets, Tensor sums) override {
    Visit(outputs.type, [&]<typename T>(T, const auto&) { cpu::CountClasses<T>(outputs, targets, sums); });
  }
  void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) override {
    Visit(outputs.type, [&]<typename T>(T, const auto&) { cpu::CountConfusion<T>(outputs, targets, sums); });
  }
  void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) override {
    Visit(outputs.type, [&]<typename T>(T, const auto&) { cpu::CountSides<T>(outputs, targets, threshold, sums); });
  }
  void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) override {
    Visit(outputs.type, [&]<typename T>(T, const auto&) { cpu::ScoreHistogram<T>(outputs, kind, targets, sums); });
  }
  void SumErrors(Tensor predictions, Tensor targets, Tensor sums) override {
    Visit(predictions.type, [&]<typename T>(T, const auto&) { cpu::SumErrors<T>(predictions, targets, sums); });
  }

  void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                   std::span<const Tensor> state) override {
    Visit(w.type, [&]<typename T>(T, const auto& k) {
      T* states[kMaxUpdateStates] = {};
      for (size_t i = 0; i < std::min(state.size(), std::size(states)); ++i) states[i] = state[i].as<T>();
      k.update(rule, args, w.as<T>(), gradient.as<T>(), states, w.elements());
    });
  }
  void SumSquares(Tensor x, Tensor out) override {
    Visit(x.type, [&]<typename T>(T, const auto& k) { *out.as<double>() += k.sum_squares(x.as<T>(), x.elements()); });
  }
  void CheckFinite(Tensor x, Tensor flag) override {
    Visit(x.type,
          [&]<typename T>(T, const auto& k) { *flag.as<double>() = k.all_finite(x.as<T>(), Elements(x)) ? 0 : 1; });
  }

 private:
  static bool InLanes(const Tensor& images) { return images.layout == Layout::kImages; }
  int64_t Elements(const Tensor& t) const { return LayoutElements(t.shape, t.layout); }

  // Of a row-major convolution: x, or what it is rounded to, in a place of its own.
  Tensor Factor(const WindowArgs& args, const Tensor& x, size_t place) {
    if (args.precision != ProductPrecision::kBf16 || x.type != DType::kF32) return x;
    std::vector<float>& to = rounded_[place];
    if (to.size() < static_cast<size_t>(x.elements())) to.resize(static_cast<size_t>(x.elements()));
    kernels_.f32->round_bf16(x.as<float>(), x.elements(), to.data());
    Tensor rounded = x;
    rounded.data = to.data();
    return rounded;
  }

  void PoolBackwardInOrder(Pooling kind, const PoolProblem& problem, const Tensor& x, const Tensor& y, const Tensor& dy,
                           const Tensor& dx) {
    if (pool_done_.size() < static_cast<size_t>(problem.out[1])) pool_done_.resize(static_cast<size_t>(problem.out[1]));
    Visit(x.type, [&]<typename T>(T, const auto& k) {
      if (kind == Pooling::kMax) {
        k.max_pool_backward(problem, x.as<T>(), y.as<T>(), dy.as<T>(), dx.as<T>(), pool_done_.data());
      } else {
        k.average_pool_backward(problem, dy.as<T>(), dx.as<T>());
      }
    });
  }

  static PoolProblem PoolOf(const WindowArgs& args, const Tensor& x, const Tensor& y) {
    return {.planes = x.shape[0] * x.shape[1],
            .in = {x.shape[2], x.shape[3]},
            .out = {y.shape[2], y.shape[3]},
            .size = {args.size[0], args.size[1]},
            .stride = {args.stride[0], args.stride[1]},
            .pad = {args.pad_begin[0], args.pad_begin[1]}};
  }

  // visit(T{}, kernels of T).
  template <typename F>
  void Visit(DType type, F visit) {
    if (type == DType::kF64) {
      visit(double{}, *kernels_.f64);
    } else {
      visit(float{}, *kernels_.f32);
    }
  }

  const int threads_;
  const KernelChoice kernels_;
  cpu::CpuGemm gemm_;
  cpu::CpuConv conv_;
  cpu::CpuLanes lanes_;
  std::array<std::vector<float>, 2> rounded_;
  // Scratch of PoolBackward.
  std::vector<unsigned char> pool_done_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(int threads) { return MakeCpuDeviceWith(ChooseKernels(), threads); }

std::unique_ptr<Device> MakeCpuDeviceWith(const KernelChoice& kernels, int threads) {
  return std::make_unique<CpuDevice>(kernels, threads);
}

}  // namespace lockstep
