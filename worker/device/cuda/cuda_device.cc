// SPDX-License-Identifier: Apache-2.0
// Every operation is enqueued on one stream, by a function of its own; see their headers.
#include "worker/device/cuda/cuda_device.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/conv.h"
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/cuda_context.h"
#include "worker/device/cuda/cuda_info.h"
#include "worker/device/cuda/dense_chain.h"
#include "worker/device/cuda/gemm.h"
#include "worker/device/cuda/images.h"
#include "worker/device/cuda/losses.h"
#include "worker/device/cuda/metrics.h"
#include "worker/device/cuda/norms.h"
#include "worker/device/cuda/pool.h"
#include "worker/device/cuda/random.h"
#include "worker/device/cuda/recorder.h"
#include "worker/device/cuda/softmax.h"
#include "worker/device/cuda/stream_uploads.h"
#include "worker/device/cuda/sum_rows.h"
#include "worker/device/cuda/transfer.h"
#include "worker/device/cuda/update.h"

namespace lockstep::cuda {

namespace {

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  // Waits for what is under way.
  ~DeviceBuffer() override { static_cast<void>(cudaFree(data_)); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

// The context, and the handles in it.
class OwnContext {
 public:
  OwnContext() : context_{.workspace = workspace_, .failure = failure_} {}
  ~OwnContext() {
    if (context_.dnn != nullptr) static_cast<void>(cudnnDestroy(context_.dnn));
    if (context_.blas != nullptr) static_cast<void>(cublasLtDestroy(context_.blas));
    if (context_.stream != nullptr) static_cast<void>(cudaStreamDestroy(context_.stream));
  }
  OwnContext(const OwnContext&) = delete;
  OwnContext& operator=(const OwnContext&) = delete;
  Context& get() { return context_; }

  bool Open(int index) {
    context_.device = index;
    return LOCKSTEP_CUDA_CHECK(context_, cudaSetDevice(index)) &&
           LOCKSTEP_CUDA_CHECK(context_,
                               cudaDeviceGetAttribute(&context_.sm_count, cudaDevAttrMultiProcessorCount, index)) &&
           LOCKSTEP_CUDA_CHECK(context_, cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking)) &&
           LOCKSTEP_CUDA_CHECK(context_, cublasLtCreate(&context_.blas)) &&
           LOCKSTEP_CUDA_CHECK(context_, cudnnCreate(&context_.dnn)) &&
           LOCKSTEP_CUDA_CHECK(context_, cudnnSetStream(context_.dnn, context_.stream));
  }

 private:
  Failure failure_;
  Workspace workspace_;
  Context context_;
};

class CudaDevice final : public Device {
 public:
  ~CudaDevice() override {
    // What is taken apart now may still be in use.
    if (context_.stream != nullptr) static_cast<void>(cudaStreamSynchronize(context_.stream));
  }

  absl::Status Open(int index) {
    description_ = DescribeGpu(ListGpus(), index);
    if (own_.Open(index) && transfer_.Create(context_) && uploads_.Create()) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("GPU ", index, " cannot be used: ", context_.failure.text()));
  }

  cudaStream_t stream() const { return context_.stream; }

  std::string Description() const override { return description_; }
  absl::Status status() const override {
    return context_.failure.ok() ? absl::OkStatus() : absl::InternalError(context_.failure.text());
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    if (absl::Status failed = status(); !failed.ok()) return failed;
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, std::max<size_t>(bytes, 1));
    if (error != cudaSuccess) return CannotAllocate(bytes, error);
    auto buffer = std::make_unique<DeviceBuffer>(data, bytes);
    LOCKSTEP_CUDA_CHECK(context_, cudaMemsetAsync(data, 0, bytes, context_.stream));
    return buffer;
  }

  void CopyFromHost(void* to, const void* from, size_t bytes) override {
    transfer_.ToDevice(context_, to, from, bytes);
  }
  void CopyToHost(void* to, const void* from, size_t bytes) override { transfer_.ToHost(context_, to, from, bytes); }
  void Synchronize() override { LOCKSTEP_CUDA_CHECK(context_, cudaStreamSynchronize(context_.stream)); }
  bool host_accessible() const override { return false; }
  StepRecorder* recorder() override { return &recorder_; }
  Uploads* uploads() override { return &uploads_; }

  void Copy(Tensor from, Tensor to) override {
    if (Works()) cuda::Copy(context_, from, to);
  }
  void Fill(Tensor out, double value) override {
    if (Works()) cuda::Fill(context_, out, value);
  }
  Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) const override {
    return cuda::ImageLayout(args, x, kernel, type);
  }
  // Channels last is another order, and takes no more.
  int64_t LayoutElements(const Shape& images, Layout) const override { return images.elements(); }
  void Relayout(Tensor from, Tensor to) override { cuda::Relayout(context_, from, to); }
  void Add(Tensor a, Tensor b, Tensor out) override {
    if (Works()) cuda::Add(context_, a, b, out);
  }
  void RandomUniform(Tensor out, const RngStream& stream, double low, double high) override {
    cuda::RandomUniform(context_, out, stream, low, high);
  }
  void RandomNormal(Tensor out, const RngStream& stream, const NormalArgs& args) override {
    cuda::RandomNormal(context_, out, stream, args);
  }
  void GatherRows(Tensor rows, Tensor indices, const GatherArgs& args, Tensor out) override {
    cuda::GatherRows(context_, rows, indices, args, out);
  }
  void GatherLabels(Tensor labels, Tensor indices, Tensor out) override {
    cuda::GatherLabels(context_, labels, indices, out);
  }

  DType FactorType(ProductPrecision precision) const override { return FactorTypeOf(precision); }
  void Round(Tensor from, Tensor to) override {
    const bool bf16 = to.type == DType::kBF16;
    RoundFactor(context_, bf16 ? ProductPrecision::kBf16 : ProductPrecision::kFloat16, from.as<float>(),
                from.elements(), to.data);
  }
  void Gemm(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) override {
    gemm_.Run(context_, args, a, b, bias, out);
  }
  void SumRows(Tensor dy, Tensor out) override { cuda::SumRows(context_, dy, out); }
  void ActivationForward(const ActivationArgs& args, Tensor x, Tensor y) override {
    cuda::ActivationForward(context_, args, x, y);
  }
  void ActivationBackward(const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx) override {
    cuda::ActivationBackward(context_, args, x, y, dy, dx);
  }
  void SoftmaxForward(Tensor x, Tensor y) override { cuda::SoftmaxForward(context_, x, y); }
  void SoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override { cuda::SoftmaxBackward(context_, y, dy, dx); }
  void LogSoftmaxForward(Tensor x, Tensor y) override { cuda::LogSoftmaxForward(context_, x, y); }
  void LogSoftmaxBackward(Tensor y, Tensor dy, Tensor dx) override { cuda::LogSoftmaxBackward(context_, y, dy, dx); }
  void CopyBlocks(Tensor from, const BlockLayout& from_layout, Tensor to, const BlockLayout& to_layout, int64_t blocks,
                  int64_t width, bool add) override {
    cuda::CopyBlocks(context_, from, from_layout, to, to_layout, blocks, width, add);
  }
  void Convert(Tensor from, double scale, Tensor to) override { cuda::Convert(context_, from, scale, to); }
  void Blend(double keep, Tensor from, Tensor to) override { cuda::Blend(context_, keep, from, to); }

  void ConvForward(const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias, const ActivationArgs& activation,
                   Tensor y) override {
    cuda::ConvForward(context_, convolutions_, args, x, kernel, bias, activation, y);
  }
  void ConvBackwardInput(const WindowArgs& args, Tensor dy, Tensor kernel, const ActivationArgs& before, Tensor x,
                         Tensor dx) override {
    cuda::ConvBackwardInput(context_, convolutions_, args, dy, kernel, before, x, dx);
  }
  void ConvBackwardKernel(const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel, Tensor dbias) override {
    cuda::ConvBackwardKernel(context_, convolutions_, args, x, dy, dkernel, dbias);
  }
  void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) override {
    cuda::PoolForward(context_, kind, args, x, y);
  }
  void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy, const ActivationArgs& before,
                    Tensor dx) override {
    cuda::PoolBackward(context_, kind, args, x, y, dy, before, dx);
  }

  void ChannelSums(Tensor x, Tensor sums) override { cuda::ChannelSums(context_, x, sums); }
  void ChannelStatistics(Tensor sums, double count, double epsilon, Tensor statistics) override {
    cuda::ChannelStatistics(context_, sums, count, epsilon, statistics);
  }
  void MovingStatistics(Tensor mean, Tensor variance, double epsilon, Tensor statistics) override {
    cuda::MovingStatistics(context_, mean, variance, epsilon, statistics);
  }
  void ChannelNormForward(Tensor x, Tensor statistics, Tensor gamma, Tensor beta, const ActivationArgs& activation,
                          Tensor y) override {
    cuda::ChannelNormForward(context_, x, statistics, gamma, beta, activation, y);
  }
  void ChannelNormSums(Tensor x, Tensor statistics, Tensor dy, Tensor sums) override {
    cuda::ChannelNormSums(context_, x, statistics, dy, sums);
  }
  void ChannelNormBackward(Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count, Tensor dy,
                           Tensor dx) override {
    cuda::ChannelNormBackward(context_, x, statistics, gamma, sums, count, dy, dx);
  }
  void RowNormForward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                      Tensor y) override {
    cuda::RowNormForward(context_, args, x, gamma, beta, statistics, y);
  }
  void RowNormBackward(const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy, Tensor dx,
                       Tensor dgamma, Tensor dbeta) override {
    cuda::RowNormBackward(context_, args, x, gamma, statistics, dy, dx, dgamma, dbeta);
  }
  void Dropout(Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y) override {
    cuda::Dropout(context_, x, rate, stream, first_row, y);
  }

  void SoftmaxCrossEntropy(const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale, Tensor dlogits,
                           Tensor sum) override {
    cuda::SoftmaxCrossEntropy(context_, args, logits, targets, scale, dlogits, sum);
  }
  void CrossEntropy(const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                    Tensor dprobabilities, Tensor sum) override {
    cuda::CrossEntropy(context_, args, probabilities, targets, scale, dprobabilities, sum);
  }
  void ElementLoss(const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale, Tensor dpredictions,
                   Tensor sum) override {
    cuda::ElementLoss(context_, args, predictions, targets, scale, dpredictions, sum);
  }

  void CountTopK(Tensor outputs, Tensor targets, int k, Tensor sum) override {
    cuda::CountTopK(context_, outputs, targets, k, sum);
  }
  void CountClasses(Tensor outputs, Tensor targets, Tensor sums) override {
    cuda::CountClasses(context_, outputs, targets, sums);
  }
  void CountConfusion(Tensor outputs, Tensor targets, Tensor sums) override {
    cuda::CountConfusion(context_, outputs, targets, sums);
  }
  void CountSides(Tensor outputs, Tensor targets, double threshold, Tensor sums) override {
    cuda::CountSides(context_, outputs, targets, threshold, sums);
  }
  void ScoreHistogram(Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) override {
    cuda::ScoreHistogram(context_, outputs, kind, targets, sums);
  }
  void SumErrors(Tensor predictions, Tensor targets, Tensor sums) override {
    cuda::SumErrors(context_, predictions, targets, sums);
  }

  bool TakesDenseChain(const DenseChain& chain) const override { return cuda::TakesDenseChain(chain); }
  void RunDenseChain(const DenseChain& chain) override { cuda::RunDenseChain(context_, chain); }

  void ApplyUpdate(UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                   std::span<const Tensor> state) override {
    cuda::ApplyUpdate(context_, rule, args, w, gradient, state);
  }
  void SumSquares(Tensor x, Tensor out) override {
    if (Works()) cuda::SumSquares(context_, x, out);
  }
  void CheckFinite(Tensor x, Tensor flag) override { cuda::CheckFinite(context_, x, flag); }

 private:
  // False: an update is walked through for its arguments alone.
  bool Works() const { return context_.recording.collected == nullptr; }

  static absl::Status CannotAllocate(size_t bytes, cudaError_t error) {
    // Not an error of the calls that come.
    static_cast<void>(cudaGetLastError());
    size_t available = 0, total = 0;
    if (error != cudaErrorMemoryAllocation || cudaMemGetInfo(&available, &total) != cudaSuccess) {
      return absl::InternalError(
          absl::StrCat("cannot allocate ", bytes, " bytes of the GPU's memory: ", cudaGetErrorString(error)));
    }
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes,
                                                     " bytes of the GPU's memory: ", available, " of ", total,
                                                     " are free; use a smaller model or batch, or more workers"));
  }

  // The first to be made and the last to go.
  OwnContext own_;
  Context& context_ = own_.get();
  std::string description_;
  Transfer transfer_;
  GemmCache gemm_;
  ConvPlans convolutions_;
  Recorder recorder_{&context_};
  StreamUploads uploads_{&context_};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(int index) {
  const GpuList list = ListGpus();
  if (list.gpus.empty()) return absl::UnavailableError(absl::StrCat("no GPU can be used: ", list.none_because));
  auto device = std::make_unique<CudaDevice>();
  if (absl::Status opened = device->Open(index); !opened.ok()) return opened;
  return device;
}

void* StreamOf(const Device& device) { return static_cast<const CudaDevice&>(device).stream(); }

}  // namespace lockstep::cuda
