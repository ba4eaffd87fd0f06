// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/cuda/conv_kernels.h"

namespace lockstep::cuda {

namespace {

// More scratch memory than this is not worth what it speeds up.
constexpr size_t kWorkspaceLimit = size_t{1} << 30;
constexpr int kMostAlgorithms = 16;

int Int(int64_t value) { return static_cast<int>(value); }

// Those that add the products themselves. Which of them are deterministic cuDNN says.
bool AddsProducts(cudnnConvolutionFwdAlgo_t algorithm) {
  return algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM ||
         algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM || algorithm == CUDNN_CONVOLUTION_FWD_ALGO_GEMM;
}
bool AddsProducts(cudnnConvolutionBwdDataAlgo_t algorithm) { return algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_1; }
bool AddsProducts(cudnnConvolutionBwdFilterAlgo_t algorithm) {
  return algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
}

// The first that may be used, of those that cuDNN's heuristic lists, fastest first. It does not measure, so that every
// run of the same library on the same GPU takes the same one.
template <typename Found>
const Found* FirstUsable(const std::array<Found, kMostAlgorithms>& list, int count) {
  const auto usable = [](const Found& f) {
    return f.status == CUDNN_STATUS_SUCCESS && f.determinism == CUDNN_DETERMINISTIC && AddsProducts(f.algo) &&
           f.memory <= kWorkspaceLimit;
  };
  const auto found = std::find_if(list.begin(), list.begin() + count, usable);
  return found == list.begin() + count ? nullptr : &*found;
}

bool IsFloatProduct(const WindowArgs& args) { return args.precision == ProductPrecision::kFloat; }

}  // namespace

class ConvPlans::Plan {
 public:
  Plan(Context& context, Pass pass, const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y)
      : geometry(ConvGeometryOf(args, x, y)), pass_(pass) {
    usable_ = Describe(context, args, kernel) && Choose(context, IsFloatProduct(args));
  }
  ~Plan() {
    if (x_ != nullptr) cudnnDestroyTensorDescriptor(x_);
    if (y_ != nullptr) cudnnDestroyTensorDescriptor(y_);
    if (kernel_ != nullptr) cudnnDestroyFilterDescriptor(kernel_);
    if (conv_ != nullptr) cudnnDestroyConvolutionDescriptor(conv_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const ConvGeometry geometry;

  // False: cuDNN has no algorithm for it.
  bool usable() const { return usable_; }

  // Forward: x, kernel, y. Input: dy, kernel, dx. Kernel: x, dy, dkernel.
  void Run(Context& context, const float* first, const float* second, float* out) const {
    void* workspace = nullptr;
    if (bytes_ > 0) {
      workspace = context.Scratch<char>(Slot::kLibrary, bytes_);
      if (workspace == nullptr) return;
    }
    const float one = 1, zero = 0;
    switch (pass_) {
      case Pass::kForward:
        LOCKSTEP_CUDA_CHECK(context, cudnnConvolutionForward(context.dnn, &one, x_, first, kernel_, second, conv_,
                                                             forward_, workspace, bytes_, &zero, y_, out));
        break;
      case Pass::kInput:
        LOCKSTEP_CUDA_CHECK(context, cudnnConvolutionBackwardData(context.dnn, &one, kernel_, second, y_, first, conv_,
                                                                  input_, workspace, bytes_, &zero, x_, out));
        break;
      case Pass::kKernel:
        LOCKSTEP_CUDA_CHECK(
            context, cudnnConvolutionBackwardFilter(context.dnn, &one, x_, first, y_, second, conv_, kernel_algorithm_,
                                                    workspace, bytes_, &zero, kernel_, out));
        break;
    }
  }

 private:
  bool Describe(Context& context, const WindowArgs& args, const Shape& kernel) {
    const ConvGeometry& g = geometry;
    const cudnnTensorFormat_t rows = CUDNN_TENSOR_NCHW;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    // TF32 only where it is asked for.
    const cudnnMathType_t math = IsFloatProduct(args) ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
    return LOCKSTEP_CUDA_CHECK(context, cudnnCreateTensorDescriptor(&x_)) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnCreateTensorDescriptor(&y_)) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnCreateFilterDescriptor(&kernel_)) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnCreateConvolutionDescriptor(&conv_)) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnSetTensor4dDescriptor(x_, rows, type, Int(g.rows), Int(g.channels),
                                                                   Int(g.size[0]), Int(g.size[1]))) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnSetTensor4dDescriptor(y_, rows, type, Int(g.rows), Int(g.filters),
                                                                   Int(g.out[0]), Int(g.out[1]))) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnSetFilter4dDescriptor(kernel_, type, rows, Int(kernel[0]), Int(kernel[1]),
                                                                   Int(kernel[2]), Int(kernel[3]))) &&
           LOCKSTEP_CUDA_CHECK(context,
                               cudnnSetConvolution2dDescriptor(conv_, Int(g.pad[0]), Int(g.pad[1]), Int(args.stride[0]),
                                                               Int(args.stride[1]), Int(args.dilation[0]),
                                                               Int(args.dilation[1]), CUDNN_CROSS_CORRELATION, type)) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionGroupCount(conv_, Int(args.groups))) &&
           LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionMathType(conv_, math));
  }

  // What is not supported is no error: there are other kernels for it.
  bool Choose(Context& context, bool keep_math) {
    int count = 0;
    cudnnMathType_t math = CUDNN_FMA_MATH;
    // Takes the first usable one, and says whether there is one.
    const auto take = [&](const auto& list, auto& algorithm) {
      const auto* found = FirstUsable(list, count);
      if (found == nullptr) return false;
      algorithm = found->algo;
      math = found->mathType;
      return true;
    };
    std::array<cudnnConvolutionFwdAlgoPerf_t, kMostAlgorithms> forward{};
    std::array<cudnnConvolutionBwdDataAlgoPerf_t, kMostAlgorithms> input{};
    std::array<cudnnConvolutionBwdFilterAlgoPerf_t, kMostAlgorithms> kernel{};
    bool found = false;
    switch (pass_) {
      case Pass::kForward:
        found = cudnnGetConvolutionForwardAlgorithm_v7(context.dnn, x_, kernel_, conv_, y_, kMostAlgorithms, &count,
                                                       forward.data()) == CUDNN_STATUS_SUCCESS &&
                take(forward, forward_);
        break;
      case Pass::kInput:
        found = cudnnGetConvolutionBackwardDataAlgorithm_v7(context.dnn, kernel_, y_, conv_, x_, kMostAlgorithms,
                                                            &count, input.data()) == CUDNN_STATUS_SUCCESS &&
                take(input, input_);
        break;
      case Pass::kKernel:
        found = cudnnGetConvolutionBackwardFilterAlgorithm_v7(context.dnn, x_, y_, conv_, kernel_, kMostAlgorithms,
                                                              &count, kernel.data()) == CUDNN_STATUS_SUCCESS &&
                take(kernel, kernel_algorithm_);
        break;
    }
    if (!found) return false;
    if (!keep_math && !LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionMathType(conv_, math))) return false;
    return WorkspaceBytes(context) == CUDNN_STATUS_SUCCESS && bytes_ <= kWorkspaceLimit;
  }

  cudnnStatus_t WorkspaceBytes(Context& context) {
    switch (pass_) {
      case Pass::kForward:
        return cudnnGetConvolutionForwardWorkspaceSize(context.dnn, x_, kernel_, conv_, y_, forward_, &bytes_);
      case Pass::kInput:
        return cudnnGetConvolutionBackwardDataWorkspaceSize(context.dnn, kernel_, y_, conv_, x_, input_, &bytes_);
      case Pass::kKernel:
        break;
    }
    return cudnnGetConvolutionBackwardFilterWorkspaceSize(context.dnn, x_, y_, conv_, kernel_, kernel_algorithm_,
                                                          &bytes_);
  }

  Pass pass_;
  bool usable_ = false;
  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;
  cudnnFilterDescriptor_t kernel_ = nullptr;
  cudnnConvolutionDescriptor_t conv_ = nullptr;
  cudnnConvolutionFwdAlgo_t forward_{};
  cudnnConvolutionBwdDataAlgo_t input_{};
  cudnnConvolutionBwdFilterAlgo_t kernel_algorithm_{};
  size_t bytes_ = 0;
};

ConvPlans::ConvPlans() = default;
ConvPlans::~ConvPlans() = default;

ConvPlans::Plan& ConvPlans::Find(Context& context, Pass pass, const WindowArgs& args, const Shape& x,
                                 const Shape& kernel, const Shape& y) {
  key_.clear();
  // The rounded precisions are multiplied alike.
  key_.insert(key_.end(), {static_cast<int64_t>(pass), IsFloatProduct(args) ? 1 : 0, args.groups});
  for (const Shape* shape : {&x, &kernel, &y}) key_.insert(key_.end(), shape->dims().begin(), shape->dims().end());
  for (const auto* pair : {&args.stride, &args.dilation, &args.pad_begin, &args.pad_end}) {
    key_.insert(key_.end(), pair->begin(), pair->end());
  }
  const auto found = plans_.find(key_);
  if (found != plans_.end()) return *found->second;
  return *plans_.emplace(key_, std::make_unique<Plan>(context, pass, args, x, kernel, y)).first->second;
}

namespace {

// The factor as a product of this precision reads it: itself, or rounded in the slot. Null data: no memory, which is
// noted.
Tensor Factor(Context& context, const WindowArgs& args, const Tensor& t, Slot slot) {
  if (!IsRounded(args.precision)) return t;
  Tensor rounded = t;
  rounded.data = context.Scratch<float>(slot, static_cast<size_t>(t.elements()));
  if (rounded.data != nullptr) {
    RoundToFloats(context, args.precision, t.as<float>(), t.elements(), rounded.as<float>());
  }
  return rounded;
}

size_t PaddedElements(const ConvGeometry& g) {
  return static_cast<size_t>(g.rows * g.channels * g.size[0] * g.size[1]);
}

// The images as the plan wants them.
Tensor Images(Context& context, const ConvPlans::Plan& plan, const WindowArgs& args, const Tensor& x) {
  const ConvGeometry& g = plan.geometry;
  if (!plan.usable() || !g.copied) return Factor(context, args, x, Slot::kLeft);
  Tensor padded = x;
  padded.data = context.Scratch<float>(Slot::kLeft, PaddedElements(g));
  if (padded.data != nullptr) PadImages(context, g, args.precision, x.as<float>(), padded.as<float>());
  return padded;
}

void ForwardProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& x, const Tensor& kernel,
                    const Tensor& y) {
  if (x.type == DType::kF64) return DirectForward(context, args, x, kernel, y);
  const ConvPlans::Plan& plan = plans.Find(context, ConvPlans::Pass::kForward, args, x.shape, kernel.shape, y.shape);
  const Tensor images = Images(context, plan, args, x), weights = Factor(context, args, kernel, Slot::kRight);
  if (images.data == nullptr || weights.data == nullptr) return;
  if (!plan.usable()) return DirectForward(context, args, images, weights, y);
  plan.Run(context, images.as<float>(), weights.as<float>(), y.as<float>());
}

void InputProduct(Context& context, ConvPlans& plans, const WindowArgs& args, const Tensor& dy, const Tensor& kernel,
                  const Tensor& dx) {
  if (dx.type == DType::kF64) return DirectBackwardInput(context, args, dy, kernel, dx);
  const ConvPlans::Plan& plan = plans.Find(context, ConvPlans::Pass::kInput, args, dx.shape, kernel.shape, dy.shape);
  const Tensor gradient = Factor(context, args, dy, Slot::kLeft), weights = Factor(context, args, kernel, Slot::kRight);
  if (gradient.data == nullptr || weights.data == nullptr) return;
  if (!plan.usable()) return DirectBackwardInput(context, args, gradient, weights, dx);
  if (!plan.geometry.copied) {
    return plan.Run(context, gradient.as<float>(), weights.as<float>(), dx.as<float>());
  }
  float* padded = context.Scratch<float>(Slot::kOut, PaddedElements(plan.geometry));
  if (padded == nullptr) return;
  plan.Run(context, gradient.as<float>(), weights.as<float>(), padded);
  CropImages(context, plan.geometry, padded, dx.as<float>());
}

}  // namespace

Layout ImageLayout(const WindowArgs&, const Shape&, const Shape&, DType) { return Layout::kRowMajor; }

void ConvForward(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor kernel, Tensor bias,
                 const ActivationArgs& activation, Tensor y) {
  if (y.elements() == 0) return;
  ForwardProduct(context, plans, args, x, kernel, y);
  PlaneBiasActivation(context, activation, bias, y);
}

void ConvBackwardInput(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor dy, Tensor kernel,
                       const ActivationArgs& before, Tensor x, Tensor dx) {
  if (dx.elements() == 0) return;
  InputProduct(context, plans, args, dy, kernel, dx);
  if (!before.linear()) ActivationBackward(context, before, {}, x, dx, dx);
}

void ConvBackwardKernel(Context& context, ConvPlans& plans, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel,
                        Tensor dbias) {
  // Of the gradient as it is: only products round.
  if (dbias.data != nullptr) PlaneBiasGradient(context, dy, dbias);
  if (x.type == DType::kF64) return DirectBackwardKernel(context, args, x, dy, dkernel);
  const ConvPlans::Plan& plan = plans.Find(context, ConvPlans::Pass::kKernel, args, x.shape, dkernel.shape, dy.shape);
  const Tensor images = Images(context, plan, args, x), gradient = Factor(context, args, dy, Slot::kRight);
  if (images.data == nullptr || gradient.data == nullptr) return;
  if (!plan.usable()) return DirectBackwardKernel(context, args, images, gradient, dkernel);
  plan.Run(context, images.as<float>(), gradient.as<float>(), dkernel.as<float>());
}

}  // namespace lockstep::cuda
