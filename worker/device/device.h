// SPDX-License-Identifier: Apache-2.0
// Device: the arithmetic a model needs. Every call enqueues on one in-order stream; the host waits
// only in Synchronize and the Copy calls. A device belongs to one thread.
//
// Rules for all methods: tensors are dense and row-major; shapes are right (checked when the model is
// planned); outputs are overwritten unless a comment says "adds"; an output may alias an input only
// where said. All are deterministic: same inputs, same bits, on the same device model and thread
// count. kF32 and kF64 are computed in their own precision; a call never mixes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "common/rng.h"
#include "worker/device/tensor.h"

namespace lockstep {

enum class Activation : uint8_t { kLinear, kRelu, kSigmoid, kTanh };

// What the last layer's outputs are: values (probabilities, where the metric wants some), or what a
// sigmoid or a softmax would make probabilities of.
enum class OutputKind : uint8_t { kValues, kSigmoid, kSoftmax };

// out = activation(op(a) op(b) + bias), or out += op(a) op(b) where accumulate is set (then no bias
// and no activation). op(a): [m, k], op(b): [k, n], out: [m, n], bias: [n] or null data.
struct GemmArgs {
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  Activation activation = Activation::kLinear;
};

// Source rows for Gather: kU8 or kF32, [rows, width].
struct GatherArgs {
  // x = value * scale + offset.
  float scale = 1.0f;
  float offset = 0.0f;
};

struct AdamArgs {
  double learning_rate = 0.001;
  double beta_1 = 0.9;
  double beta_2 = 0.999;
  double epsilon = 1e-7;
  // Updates done before this one, plus one.
  int64_t t = 1;
};

// Zero-initialised device memory, aligned to 64 bytes, freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual size_t bytes() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // What the bits depend on: kind, model, instruction set, library and threads.
  virtual std::string Description() const = 0;

  // RESOURCE_EXHAUSTED where there is not enough memory.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  // Waits until the bytes may be reused or read.
  virtual void CopyFromHost(void* to, const void* from, size_t bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, size_t bytes) = 0;
  virtual void Synchronize() = 0;
  // True: device pointers may be used by the host directly once Synchronize has returned.
  virtual bool host_accessible() const = 0;

  // every element = value.
  virtual void Fill(Tensor out, double value) = 0;
  // out = a + b; out may alias either.
  virtual void Add(Tensor a, Tensor b, Tensor out) = 0;
  // out[i] = low + (high - low) * uniform(stream, i).
  virtual void RandomUniform(Tensor out, const RngStream& stream, double low, double high) = 0;
  // out[i, :] = rows[indices[i], :] * scale + offset. rows: [n, width] kU8 or kF32 (kF64 for a kF64
  // out); indices: kI64 [batch]; out: [batch, width].
  virtual void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) = 0;
  // out[i] = labels[indices[i]]. labels, out: kI32; indices: kI64.
  virtual void GatherLabels(Tensor labels, Tensor indices, Tensor out) = 0;

  // See GemmArgs. out aliases nothing.
  virtual void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) = 0;
  // out[j] = sum over i of dy[i, j], rows in order. dy: [rows, n], out: [n].
  virtual void SumRows(Tensor dy, Tensor out) = 0;
  // y = f(x); y may alias x.
  virtual void ActivationForward(Activation kind, Tensor x, Tensor y) = 0;
  // dx = dy f'(x), computed from y = f(x); dx may alias dy.
  virtual void ActivationBackward(Activation kind, Tensor y, Tensor dy, Tensor dx) = 0;
  // Over the last axis, the maximum subtracted first. x, y: [rows, n]; y may alias x.
  virtual void SoftmaxForward(Tensor x, Tensor y) = 0;
  // dx = y (dy - sum(dy y)); dx may alias dy.
  virtual void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) = 0;
  // y[i, j] = x[i, j] * mask / (1 - rate), where mask draws element (first_row + i) * width + j of the
  // stream: it depends on the sample's place in the global batch, never on the rank. Backward is the
  // same call on the gradient. x, y: [rows, width]; y may alias x.
  virtual void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) = 0;

  // Softmax and cross-entropy in one. logits, dlogits: [rows, n]; labels: kI32 [rows];
  // sum: kF64 [1] adds -log p[label], rows in order. dlogits = (p - onehot) * scale; null data: not
  // wanted.
  virtual void SoftmaxCrossEntropy(Tensor logits, Tensor labels, double scale, Tensor dlogits, Tensor sum) = 0;
  // The same on probabilities, each clamped to [1e-7, 1] as Keras does (the gradient is of the
  // clamped value's logarithm: -scale / p[label]).
  virtual void CrossEntropy(Tensor probabilities, Tensor labels, double scale, Tensor dprobabilities, Tensor sum) = 0;
  // sum: kF64 [1] adds the mean over outputs of (p - t)^2, rows in order. dpredictions =
  // 2 (p - t) / n * scale; null data: not wanted.
  // predictions, targets: [rows, n].
  virtual void MeanSquaredError(Tensor predictions, Tensor targets, double scale, Tensor dpredictions, Tensor sum) = 0;

  // sum: kF64 [1] adds the number of rows whose label is among the k largest outputs (of equal ones the
  // lower index first). outputs: [rows, n]; targets: kI32 [rows], or [rows, n] whose largest value is the
  // label.
  virtual void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) = 0;
  // sums: kF64 [4] adds {(p - t)^2, |p - t|, t, t^2} of all outputs, in order. Both: [rows, n].
  virtual void SumErrors(Tensor predictions, Tensor targets, Tensor sums) = 0;

  // One pass over flat arrays of equal length. gradient is read only.
  // w -= learning_rate * g.
  virtual void Sgd(Tensor parameters, Tensor gradient, double learning_rate) = 0;
  // v = momentum v - learning_rate g; w += v, or with nesterov w += momentum v - learning_rate g.
  virtual void Momentum(Tensor parameters, Tensor gradient, Tensor velocity, double learning_rate, double momentum,
                        bool nesterov) = 0;
  // See AdamOptimizer in optimizer.proto for the formula. m, v: the moments.
  virtual void Adam(Tensor parameters, Tensor gradient, Tensor m, Tensor v, const AdamArgs& args) = 0;
  // flag: kF64 [1] becomes 1 where an element of x is not finite, else 0.
  virtual void CheckFinite(Tensor x, Tensor flag) = 0;
};

// "cpu" with a fixed number of threads.
std::unique_ptr<Device> MakeCpuDevice(int threads);

}  // namespace lockstep
