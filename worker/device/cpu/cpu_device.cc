// SPDX-License-Identifier: Apache-2.0
// Device on the host: every call runs at once on the calling thread.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "worker/device/cpu/cpu_buffer.h"
#include "worker/device/cpu/cpu_gemm.h"
#include "worker/device/cpu/host_info.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"
#include "worker/device/math/random.h"

namespace lockstep {
namespace {

using cpu::KernelSet;

cpu::ActivationKind ToKernel(Activation kind) {
  switch (kind) {
    case Activation::kLinear:
      return cpu::ActivationKind::kLinear;
    case Activation::kRelu:
      return cpu::ActivationKind::kRelu;
    case Activation::kSigmoid:
      return cpu::ActivationKind::kSigmoid;
    case Activation::kTanh:
      return cpu::ActivationKind::kTanh;
  }
  return cpu::ActivationKind::kLinear;
}

// Calls body(kernels, T{}) in the tensor's precision.
template <typename Body>
void InPrecision(const KernelSet& set, DType type, Body body) {
  if (type == DType::kF64) {
    body(set.f64, double{});
  } else {
    body(set.f32, float{});
  }
}

template <typename T>
void DrawUniform(Tensor out, const RngStream& stream, double low, double high) {
  T* to = out.as<T>();
  const int64_t n = out.elements();
  for (int64_t i = 0; i < n; ++i) to[i] = math::UniformBetween<T>(stream.Uniform(static_cast<uint64_t>(i)), low, high);
}

// Four draws come from one block, so walk block by block.
template <typename T>
void DropRows(Tensor x, double rate, const RngStream& stream, int64_t first, Tensor y) {
  const T* from = x.as<T>();
  T* to = y.as<T>();
  const int64_t n = x.elements();
  const float limit = static_cast<float>(rate);
  const T scale = static_cast<T>(1.0 / (1.0 - rate));
  PhiloxBlock block = stream.Block(static_cast<uint64_t>(first) >> 2);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t index = static_cast<uint64_t>(first + i);
    if ((index & 3) == 0) block = stream.Block(index >> 2);
    to[i] = math::DropoutValue(from[i], static_cast<float>(block.v[index & 3] >> 8) * (1.0f / 16777216.0f), limit,
                               scale);
  }
}

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads)
      : threads_(std::max(threads, 1)), kernels_(cpu::ChooseKernels()), gemm_(&kernels_, threads_) {}

  std::string Description() const override {
    return absl::StrCat("cpu; ", cpu::ModelName(), "; ", kernels_.name, "; ", cpu::LibraryVersion(), "; ", threads_,
                        threads_ == 1 ? " thread" : " threads");
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override { return cpu::AllocateHost(bytes); }
  void CopyFromHost(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void CopyToHost(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void Synchronize() override {}
  bool host_accessible() const override { return true; }

  void Fill(Tensor out, double value) override {
    const int64_t n = out.elements();
    if (out.type == DType::kF32 || out.type == DType::kF64) {
      InPrecision(kernels_, out.type, [&](auto& k, auto t) { k.fill(out.as<decltype(t)>(), decltype(t)(value), n); });
    } else if (out.type == DType::kU8) {
      std::fill_n(out.as<uint8_t>(), n, static_cast<uint8_t>(value));
    } else if (out.type == DType::kI32) {
      std::fill_n(out.as<int32_t>(), n, static_cast<int32_t>(value));
    } else {
      std::fill_n(out.as<int64_t>(), n, static_cast<int64_t>(value));
    }
  }

  void Add(Tensor a, Tensor b, Tensor out) override {
    InPrecision(kernels_, out.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.add(a.as<T>(), b.as<T>(), out.as<T>(), out.elements());
    });
  }

  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    InPrecision(kernels_, out.type, [&](auto&, auto t) { DrawUniform<decltype(t)>(out, stream, low, high); });
  }

  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    const int64_t batch = indices.elements();
    const int64_t width = batch > 0 ? out.elements() / batch : 0;
    const int64_t* index = indices.as<int64_t>();
    InPrecision(kernels_, out.type, [&](auto& k, auto t) {
      using T = decltype(t);
      for (int64_t i = 0; i < batch; ++i) {
        T* to = out.as<T>() + i * width;
        if (rows.type == DType::kU8) {
          k.convert_u8(rows.as<uint8_t>() + index[i] * width, args.scale, args.offset, to, width);
        } else {
          k.convert(rows.as<T>() + index[i] * width, args.scale, args.offset, to, width);
        }
      }
    });
  }

  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override {
    const int64_t n = indices.elements();
    for (int64_t i = 0; i < n; ++i) out.as<int32_t>()[i] = labels.as<int32_t>()[indices.as<int64_t>()[i]];
  }

  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    gemm_.Run(args, a, b, out);
    if (args.accumulate || (bias.data == nullptr && args.activation == Activation::kLinear)) return;
    InPrecision(kernels_, out.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.bias_activation(ToKernel(args.activation), out.as<T>(), bias.as<T>(), out.shape[0], out.shape[1]);
    });
  }

  void SumRows(Tensor dy, Tensor out) override {
    InPrecision(kernels_, out.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.sum_rows(dy.as<T>(), out.as<T>(), dy.shape[0], out.elements());
    });
  }

  void ActivationForward(Activation kind, Tensor x, Tensor y) override {
    InPrecision(kernels_, y.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.activation_forward(ToKernel(kind), x.as<T>(), y.as<T>(), y.elements());
    });
  }

  void ActivationBackward(Activation kind, Tensor y, Tensor dy, Tensor dx) override {
    InPrecision(kernels_, y.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.activation_backward(ToKernel(kind), y.as<T>(), dy.as<T>(), dx.as<T>(), y.elements());
    });
  }

  void SoftmaxForward(Tensor x, Tensor y) override {
    InPrecision(kernels_, y.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.softmax_forward(x.as<T>(), y.as<T>(), Rows(y), Width(y));
    });
  }

  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override {
    InPrecision(kernels_, y.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.softmax_backward(y.as<T>(), dy.as<T>(), dx.as<T>(), Rows(y), Width(y));
    });
  }

  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    if (rate == 0) {
      if (x.data != y.data && y.elements() > 0) std::memcpy(y.data, x.data, y.bytes());
      return;
    }
    const int64_t width = x.shape[0] > 0 ? x.elements() / x.shape[0] : 0;
    InPrecision(kernels_, y.type,
                [&](auto&, auto t) { DropRows<decltype(t)>(x, rate, stream, first_row * width, y); });
  }

  void SoftmaxCrossEntropy(Tensor logits, Tensor labels, double scale, Tensor dlogits, Tensor stats) override {
    InPrecision(kernels_, logits.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.softmax_cross_entropy(logits.as<T>(), labels.as<int32_t>(), scale, dlogits.as<T>(), stats.as<double>(),
                              Rows(logits), Width(logits));
    });
  }

  void CrossEntropy(Tensor probabilities, Tensor labels, double scale, Tensor dprobabilities, Tensor stats) override {
    InPrecision(kernels_, probabilities.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.cross_entropy(probabilities.as<T>(), labels.as<int32_t>(), scale, dprobabilities.as<T>(), stats.as<double>(),
                      Rows(probabilities), Width(probabilities));
    });
  }

  void MeanSquaredError(Tensor predictions, Tensor targets, double scale, Tensor dpredictions, Tensor stats) override {
    const int64_t rows = predictions.shape[0];
    const int64_t width = rows > 0 ? predictions.elements() / rows : 0;
    InPrecision(kernels_, predictions.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.mean_squared_error(predictions.as<T>(), targets.as<T>(), scale, dpredictions.as<T>(), stats.as<double>(), rows,
                           width);
    });
  }

  void Sgd(Tensor parameters, Tensor gradient, double learning_rate) override {
    InPrecision(kernels_, parameters.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.sgd(parameters.as<T>(), gradient.as<T>(), learning_rate, parameters.elements());
    });
  }

  void Momentum(Tensor parameters, Tensor gradient, Tensor velocity, double learning_rate, double momentum,
                bool nesterov) override {
    InPrecision(kernels_, parameters.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.momentum(parameters.as<T>(), gradient.as<T>(), velocity.as<T>(), learning_rate, momentum, nesterov,
                 parameters.elements());
    });
  }

  void Adam(Tensor parameters, Tensor gradient, Tensor m, Tensor v, const AdamArgs& args) override {
    const cpu::AdamConstants constants{args.learning_rate, args.beta_1, args.beta_2, args.epsilon,
                                       static_cast<double>(args.t)};
    InPrecision(kernels_, parameters.type, [&](auto& k, auto t) {
      using T = decltype(t);
      k.adam(parameters.as<T>(), gradient.as<T>(), m.as<T>(), v.as<T>(), constants, parameters.elements());
    });
  }

  void CheckFinite(Tensor x, Tensor flag) override {
    InPrecision(kernels_, x.type, [&](auto& k, auto t) {
      *flag.as<double>() = k.all_finite(x.as<decltype(t)>(), x.elements()) ? 0.0 : 1.0;
    });
  }

 private:
  static int64_t Width(const Tensor& x) { return x.shape[x.shape.rank() - 1]; }
  static int64_t Rows(const Tensor& x) { return Width(x) > 0 ? x.elements() / Width(x) : 0; }

  int threads_;
  const KernelSet& kernels_;
  cpu::CpuGemm gemm_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(int threads) { return std::make_unique<CpuDevice>(threads); }

}  // namespace lockstep
