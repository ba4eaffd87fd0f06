// SPDX-License-Identifier: Apache-2.0
// Device: the arithmetic a model needs. Every call enqueues on one in-order stream; the host waits
// only in Synchronize and the Copy calls. A device belongs to one thread.
//
// Rules for all methods: tensors are dense; row-major unless a comment says "any layout", which then is the
// same for all images of a call; shapes are right (checked when the model is planned); outputs are overwritten unless a
// comment says "adds"; an output may alias an input only where said. All are deterministic: same inputs, same bits, on
// the same device model and thread count. kF32 and kF64 are computed in their own precision; a call never mixes them.
// Images of Layout::kImages may, instead of kF32, all be of a FactorType: computed in float, and rounded once where
// they are written, or once more where a device writes a product before what is behind it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rng.h"
#include "worker/device/tensor.h"
#include "worker/device/update.h"

namespace lockstep {

enum class Activation : uint8_t {
  kLinear,
  kRelu,
  kLeakyRelu,
  kElu,
  kSelu,
  kGelu,
  kGeluTanh,
  kSilu,
  kSigmoid,
  kHardSigmoid,
  kTanh,
  kSoftplus,
};

// An element-wise function; formulas in model.proto.
struct ActivationArgs {
  Activation kind = Activation::kLinear;
  // The slope of kLeakyRelu, the alpha of kElu.
  double alpha = 0;

  bool linear() const { return kind == Activation::kLinear; }
};

// False: the derivative is a function of y = f(x) alone, so x need not be kept.
constexpr bool GradientNeedsInput(Activation kind) {
  return kind == Activation::kGelu || kind == Activation::kGeluTanh || kind == Activation::kSilu;
}

// What the last layer's outputs are: values (probabilities, where the metric wants some), or what a
// sigmoid or a softmax would make probabilities of.
enum class OutputKind : uint8_t { kValues, kSigmoid, kSoftmax };

// A row's loss is weight * -sum(q log p). q: the target, 1 for the label, smoothed to
// q (1 - label_smoothing) + label_smoothing / n. weight: that of the label, or of the largest target (lowest
// index).
struct CrossEntropyArgs {
  double label_smoothing = 0;
  // kF64 [n]; null data: all 1.
  Tensor class_weights = {};
};

// Functors in math/losses.h.
enum class ElementLossKind : uint8_t {
  kSquaredError,
  kAbsoluteError,
  // parameter: delta.
  kHuber,
  // A class index 0 means -1.
  kHinge,
  // parameter: label smoothing.
  kBinaryCrossentropy,
  kBinaryCrossentropyOnLogits,
  kKlDivergence,
};

// A row's loss is the sum over its outputs of the kind's function, or with `mean` that by n.
struct ElementLossArgs {
  ElementLossKind kind = ElementLossKind::kSquaredError;
  double parameter = 0;
  bool mean = true;
};

// What a product of kF32 tensors is computed in; kF64 is always computed in double.
enum class ProductPrecision : uint8_t {
  kFloat,
  // Each factor is rounded to BF16 (to nearest, ties to even) and the products are added in float.
  kBf16,
  // The same with TF32, and with IEEE half precision. A device without such units computes in float.
  kTf32,
  kFloat16,
};

// out = activation(op(a) op(b) + bias), or out += op(a) op(b) where accumulate is set (then no bias
// and no activation). op(a): [m, k], op(b): [k, n], out: [m, n], bias: [n] or null data. Of what follows `precision`, a
// call has at most one, without accumulate, and null data where it is not wanted.
struct GemmArgs {
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  ActivationArgs activation = {};
  ProductPrecision precision = ProductPrecision::kFloat;
  // Without transpose_b: [n] becomes the sum of the rows of b, in an order that the shape alone decides. The elements
  // may be rounded as factors are.
  Tensor row_sums = {};
  // out is multiplied by the gradient of `before`, whose output was `source` [m, n]; not where GradientNeedsInput.
  ActivationArgs before = {};
  Tensor source = {};
  // kF64 [GemmMaskElements(m, n)] of the caller's. Where this call has an activation: what the device may leave behind
  // for its gradient. Where it has `before`: what the call that put out `source` has left there.
  Tensor mask = {};
};

// One bit for each element of out; rows begin on sixteen bytes.
constexpr int64_t GemmMaskElements(int64_t m, int64_t n) { return m * ((n + 127) / 128) * 2; }

// Source rows for Gather: kU8 or kF32, [rows, width].
struct GatherArgs {
  // x = value * scale + offset.
  float scale = 1.0f;
  float offset = 0.0f;
};

// What there is of a batch of samples: all numbers, some columns (Tensor::columns), or where they come from
// (Tensor::byte_rows).
enum class SampleForm : uint8_t { kAll, kColumns, kBytes };

// A window that moves over images [height, width]; index 0 is the height.
struct WindowArgs {
  std::array<int64_t, 2> size{1, 1};
  std::array<int64_t, 2> stride{1, 1};
  // Distance of neighbouring places of the window; only convolution has it.
  std::array<int64_t, 2> dilation{1, 1};
  // Rows and columns before and behind the image. Convolution takes them as zeros, pooling leaves them
  // out.
  std::array<int64_t, 2> pad_begin{0, 0};
  std::array<int64_t, 2> pad_end{0, 0};
  int64_t groups = 1;
  // Only of convolution. A device may compute any shape in float.
  ProductPrecision precision = ProductPrecision::kFloat;
};

enum class Pooling : uint8_t { kMax, kAverage };

// Rows of x seen as [groups, n / groups]: each group has statistics of its own. Element j of a group g
// has the scale and shift (g * n / groups + j) / spatial.
struct RowNormArgs {
  int64_t groups = 1;
  int64_t spatial = 1;
  double epsilon = 1e-3;
};

// Blocks of `width` elements: block i lies at offset + i * stride.
struct BlockLayout {
  int64_t offset = 0;
  int64_t stride = 0;
};

// For RandomNormal.
struct NormalArgs {
  double mean = 0;
  // Of the whole distribution, also where it is truncated.
  double stddev = 1;
  // Nothing further than two standard deviations from the mean.
  bool truncated = false;
};

// Zero-initialised device memory, aligned to 64 bytes, freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual size_t bytes() const = 0;
};

// worker/device/dense_chain.h
struct DenseChain;
// worker/device/step_recorder.h
class StepRecorder;
// worker/device/uploads.h
class Uploads;

// The streams of random numbers of neighbouring steps are 2^kStepShift apart: stream = step << kStepShift | what the
// caller tells apart in a step.
inline constexpr int kStepShift = 16;

class Device {
 public:
  virtual ~Device() = default;

  // What the bits depend on: kind, model, instruction set, library and threads.
  virtual std::string Description() const = 0;
  // What went wrong first in a call that has no status of its own, by a broken machine: whatever was computed since is
  // undefined. Looked at after a Copy to the host, before its bytes are used.
  virtual absl::Status status() const { return absl::OkStatus(); }

  // RESOURCE_EXHAUSTED where there is not enough memory.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  // Waits until the bytes may be reused or read.
  virtual void CopyFromHost(void* to, const void* from, size_t bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, size_t bytes) = 0;
  virtual void Synchronize() = 0;
  // True: device pointers may be used by the host directly once Synchronize has returned.
  virtual bool host_accessible() const = 0;
  // Does steps again without the host; the device's own. Null: it cannot.
  virtual StepRecorder* recorder() { return nullptr; }
  // Copies beside its other work; the device's own. Not null unless host_accessible.
  virtual Uploads* uploads() { return nullptr; }

  // to = from: as many bytes, of any type.
  virtual void Copy(Tensor from, Tensor to) = 0;
  // every element = value.
  virtual void Fill(Tensor out, double value) = 0;
  // The layout in which this convolution is fastest from end to end, by its shape alone. x, kernel: as in ConvForward.
  virtual Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const = 0;
  // Elements of memory for images [rows, channels, ...]; no more for fewer rows.
  virtual int64_t LayoutElements(const Shape& images, Layout layout) const = 0;
  // to = from, in the layout of each. One may be of kF32 and the other of a FactorType.
  virtual void Relayout(Tensor from, Tensor to) = 0;
  // out = a + b; out may alias either. Any layout.
  virtual void Add(Tensor a, Tensor b, Tensor out) = 0;
  // out[i] = low + (high - low) * uniform(stream, i).
  virtual void RandomUniform(Tensor out, const RngStream& stream, double low, double high) = 0;
  // out[i] = mean + stddev * the normal draw of word i of the stream (math/random.h).
  virtual void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) = 0;
  // out[i, :] = rows[indices[i], :] * scale + offset. rows: [n, width] kU8 or kF32 (kF64 for a kF64
  // out); indices: kI64 [batch]; out: [batch, width].
  virtual void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) = 0;
  // In which form a matrix [rows, width] of bytes, mostly zero, is multiplied fastest with `n` columns.
  virtual SampleForm FormOfSamples(int64_t rows, int64_t width, int64_t n, ProductPrecision precision) const {
    static_cast<void>(rows), static_cast<void>(width), static_cast<void>(n), static_cast<void>(precision);
    return SampleForm::kAll;
  }
  // GatherRows of kU8 rows, without args.offset: what is not zero in any of them. columns: room for the width; is set.
  // out: [batch, width], of which the first batch * columns->count are set. Only where a FormOfSamples is kColumns.
  virtual void GatherColumns(Tensor rows, Tensor indices, const GatherArgs& args, ColumnList* columns, Tensor out) {
    static_cast<void>(rows), static_cast<void>(indices), static_cast<void>(args), static_cast<void>(columns);
    static_cast<void>(out);
  }
  // A step of plain SGD whose gradient nobody else wants to see: w -= step_size x^T dy. x: [rows, width], with
  // Tensor::columns; dy: [rows, n]; w: [width, n]. Only where a FormOfSamples is kColumns.
  virtual void StepColumns(double step_size, Tensor x, Tensor dy, Tensor w) {
    static_cast<void>(step_size), static_cast<void>(x), static_cast<void>(dy), static_cast<void>(w);
  }
  // True: that gradient is finite. False: it may be.
  virtual bool ProductIsFinite(Tensor x, Tensor dy) const {
    static_cast<void>(x), static_cast<void>(dy);
    return false;
  }
  // out[i] = labels[indices[i]]. labels, out: kI32; indices: kI64.
  virtual void GatherLabels(Tensor labels, Tensor indices, Tensor out) = 0;

  // The type in which images of Layout::kImages may lie, and what nothing but products of this precision, Relayout and
  // CheckFinite writes and reads: it holds what factors are rounded to. kF32: like all others.
  virtual DType FactorType(ProductPrecision precision) const {
    static_cast<void>(precision);
    return DType::kF32;
  }
  // to = from, rounded as factors are. from: kF32; to: of a FactorType that is not kF32, as many elements.
  virtual void Round(Tensor from, Tensor to) { static_cast<void>(from), static_cast<void>(to); }
  // See GemmArgs. out aliases nothing. Of kF32 tensors, a, b, GemmArgs::source and, without accumulate and row_sums,
  // out may be of FactorType(precision); then the bias may be rounded like a factor. Where it is a
  // FormOfSamples, `a` may be of some columns alone, or of ByteRows, with neither transpose_b nor accumulate.
  virtual void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) = 0;
  // out[j] = sum over i of dy[i, j], in an order that rows and n alone decide. dy: [rows, n], out: [n].
  virtual void SumRows(Tensor dy, Tensor out) = 0;
  // y = f(x); y may alias x. Any layout.
  virtual void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) = 0;
  // dx = dy f'(x), computed from y = f(x), and from x where GradientNeedsInput (else x may have null
  // data); dx may alias dy. Any layout.
  virtual void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) = 0;
  // Over the last axis, the maximum subtracted first. x, y: [rows, n]; y may alias x.
  virtual void SoftmaxForward(Tensor x, Tensor y) = 0;
  // dx = y (dy - sum(dy y)); dx may alias dy.
  virtual void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) = 0;
  // y = x - log(sum(exp(x))) over the last axis; y may alias x.
  virtual void LogSoftmaxForward(Tensor x, Tensor y) = 0;
  // dx = dy - exp(y) sum(dy); dx may alias dy.
  virtual void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) = 0;
  // Block i of `to` becomes block i of `from`, or has it added. Both are flat.
  virtual void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout,
                          int64_t blocks, int64_t width, bool add) = 0;
  // to = from * scale. from: kF64; to: kF32 or kF64, as many elements.
  virtual void Convert(Tensor from, double scale, Tensor to) = 0;
  // to = keep * to + (1 - keep) * from.
  virtual void Blend(double keep, Tensor from, Tensor to) = 0;

  // Images are in any layout from here on.
  //
  // x: [rows, channels, h, w], kernel: [filters, channels / groups, kh, kw], bias: [filters] or null
  // data, y: [rows, filters, oh, ow]; y = activation(x * kernel + bias), cross-correlation.
  virtual void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias,
                           const ActivationArgs& activation, Tensor y) = 0;
  // Of the product alone: dy is the gradient before the activation. x: what `before` has put out, whose gradient is
  // applied to dx too; null data where it is linear.
  virtual void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before,
                                 Tensor x, Tensor dx) = 0;
  // dbias: null data where there is none. Of images of a FactorType, dkernel may be rounded like a factor.
  virtual void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) = 0;
  // x: [rows, channels, h, w], y: [rows, channels, oh, ow]. The mean is over the places inside the image.
  virtual void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) = 0;
  // kMax: the gradient goes to the first of the largest, row by row; y is what forward gave. before: as in
  // ConvBackwardInput.
  virtual void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy,
                            const ActivationArgs& before, Tensor dx) = 0;

  // x: [rows, channels, ...]. sums: kF64 [2, channels] adds {sum of x, sum of x^2} of each channel.
  virtual void ChannelSums(Tensor x, Tensor sums) = 0;
  // statistics: kF64 [3, channels] becomes {mean, 1 / sqrt(variance + epsilon), variance} of `count`
  // numbers with these sums.
  virtual void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) = 0;
  // The same from a mean and a variance: [channels] each.
  virtual void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) = 0;
  // y = activation((x - mean) / deviation gamma + beta). statistics: as above;
  // gamma, beta: [channels] or null data.
  virtual void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta,
                                  const ActivationArgs& activation, Tensor y) = 0;
  // sums: kF64 [2, channels] adds {sum of dy, sum of dy (x - mean) / deviation}.
  virtual void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) = 0;
  // dx = gamma / deviation (dy - sums[0] / count - xhat sums[1] / count), xhat = (x - mean) / deviation;
  // count: numbers behind the statistics, 0 where they are constants (then dx = gamma / deviation dy).
  virtual void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                                   Tensor dx) = 0;

  // Row-major again. See RowNormArgs. x: [rows, n]; gamma, beta: flat, or null data; statistics: kF64 [rows * groups,
  // 2] becomes {mean, 1 / sqrt(variance + epsilon)}.
  virtual void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                              Tensor y) = 0;
  // dgamma, dbeta are overwritten; null data: not wanted, as dx.
  virtual void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                               Tensor dgamma, Tensor dbeta) = 0;

  // y[i, j] = x[i, j] * mask / (1 - rate), where mask draws element (first_row + i) * width + j of the
  // stream: it depends on the sample's place in the global batch, never on the rank. Backward is the
  // same call on the gradient. x, y: [rows, width]; y may alias x. The stream is one of a step's (kStepShift): a
  // recorded call draws from that of the step that is run.
  virtual void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) = 0;

  // The losses. sum: kF64 [1] adds the rows' losses, rows in order; the gradient is of scale * that sum;
  // null data: not wanted. targets: kI32 [rows] (class indices; one that is no class makes the loss
  // NaN), or [rows, n] of the outputs' type.
  //
  // Softmax and cross-entropy in one. logits, dlogits: [rows, n].
  virtual void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale,
                                   Tensor dlogits, Tensor sum) = 0;
  // The same on probabilities, each clamped to [1e-7, 1] as Keras does (the gradient is of the clamped
  // value's logarithm).
  virtual void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                            Tensor dprobabilities, Tensor sum) = 0;
  // See ElementLossArgs. predictions, dpredictions: [rows, n]; class indices only for n = 1.
  virtual void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale,
                           Tensor dpredictions, Tensor sum) = 0;

  // What metrics are made of; each adds to its sums (kF64). outputs: [rows, n]. targets: kI32 [rows], or
  // [rows, n], whose largest value (lowest index) is the label and which mean yes above 0.5. An output's
  // class is its largest value's index (the lowest on a tie). A label that is no class counts nowhere.
  //
  // sum: [1], rows whose label is among the k largest outputs (of equal ones the lower index first).
  virtual void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) = 0;
  // sums: [n, 3], for each class {rows of this class that were taken for it, rows taken for it, rows of it}.
  virtual void CountClasses(Tensor outputs, Tensor targets, Tensor sums) = 0;
  // sums: [n, n], rows of class i that were taken for class j.
  virtual void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) = 0;
  // sums: [4], {true positives, false positives, false negatives, true negatives} over all outputs, where
  // one above the threshold means yes. Class indices 0 and 1 for n = 1.
  virtual void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) = 0;
  // sums: [2, buckets], histograms of the outputs' probabilities, first where the target is no and then
  // where it is yes; bucket i is for (i / buckets, (i + 1) / buckets], and 0 for 0 and less too. Class
  // indices: one for each output.
  virtual void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) = 0;
  // sums: [4], {(p - t)^2, |p - t|, t, t^2} of all outputs, in order. Both: [rows, n].
  virtual void SumErrors(Tensor predictions, Tensor targets, Tensor sums) = 0;

  // True: RunDenseChain does this, which the shapes, the types and the kinds of the functions decide. The sums' order
  // is that operation's own.
  virtual bool TakesDenseChain(const DenseChain& chain) const {
    static_cast<void>(chain);
    return false;
  }
  virtual void RunDenseChain(const DenseChain& chain) { static_cast<void>(chain); }

  // One pass of the rule (update.h) over arrays of equal length. `state`: as many as the rule has. What
  // the rule does not change is read only.
  virtual void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                           std::span<const Tensor> state) = 0;
  // out: kF64 [1] adds the sum of x[i]^2, in double and in an order that depends on the length alone.
  virtual void SumSquares(Tensor x, Tensor out) = 0;
  // flag: kF64 [1] becomes 1 where an element of x is not finite, else 0. Any layout.
  virtual void CheckFinite(Tensor x, Tensor flag) = 0;
};

// "cpu" with a fixed number of threads.
std::unique_ptr<Device> MakeCpuDevice(int threads);

}  // namespace lockstep
