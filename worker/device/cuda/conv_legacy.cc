// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_legacy.h"

#include <algorithm>
#include <array>

namespace lockstep::cuda {

namespace {

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
           f.memory <= kConvWorkspaceLimit;
  };
  const auto found = std::find_if(list.begin(), list.begin() + count, usable);
  return found == list.begin() + count ? nullptr : &*found;
}

bool IsFloatProduct(const ConvProduct& product) { return product.precision == ProductPrecision::kFloat; }

}  // namespace

LegacyConv::LegacyConv(Context& context, const ConvProduct& product) : pass_(product.pass) {
  usable_ = Describe(context, product) && Choose(context, IsFloatProduct(product));
}

LegacyConv::~LegacyConv() {
  if (x_ != nullptr) cudnnDestroyTensorDescriptor(x_);
  if (y_ != nullptr) cudnnDestroyTensorDescriptor(y_);
  if (kernel_ != nullptr) cudnnDestroyFilterDescriptor(kernel_);
  if (conv_ != nullptr) cudnnDestroyConvolutionDescriptor(conv_);
}

void LegacyConv::Run(Context& context, const float* first, const float* second, float* out) const {
  void* workspace = nullptr;
  if (bytes_ > 0) {
    workspace = context.Scratch<char>(Slot::kLibrary, bytes_);
    if (workspace == nullptr) return;
  }
  const float one = 1, zero = 0;
  switch (pass_) {
    case ConvPass::kForward:
      LOCKSTEP_CUDA_CHECK(context, cudnnConvolutionForward(context.dnn, &one, x_, first, kernel_, second, conv_,
                                                           forward_, workspace, bytes_, &zero, y_, out));
      break;
    case ConvPass::kInput:
      LOCKSTEP_CUDA_CHECK(context, cudnnConvolutionBackwardData(context.dnn, &one, kernel_, second, y_, first, conv_,
                                                                input_, workspace, bytes_, &zero, x_, out));
      break;
    case ConvPass::kKernel:
      LOCKSTEP_CUDA_CHECK(
          context, cudnnConvolutionBackwardFilter(context.dnn, &one, x_, first, y_, second, conv_, kernel_algorithm_,
                                                  workspace, bytes_, &zero, kernel_, out));
      break;
  }
}

bool LegacyConv::Describe(Context& context, const ConvProduct& product) {
  const ConvGeometry& g = product.geometry;
  const cudnnTensorFormat_t format = product.layout == Layout::kImages ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  // TF32 only where it is asked for.
  const cudnnMathType_t math = IsFloatProduct(product) ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
  return LOCKSTEP_CUDA_CHECK(context, cudnnCreateTensorDescriptor(&x_)) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnCreateTensorDescriptor(&y_)) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnCreateFilterDescriptor(&kernel_)) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnCreateConvolutionDescriptor(&conv_)) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnSetTensor4dDescriptor(x_, format, type, Int(g.rows), Int(g.library_channels),
                                                                 Int(g.size[0]), Int(g.size[1]))) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnSetTensor4dDescriptor(y_, format, type, Int(g.rows), Int(g.filters),
                                                                 Int(g.out[0]), Int(g.out[1]))) &&
         LOCKSTEP_CUDA_CHECK(context,
                             cudnnSetFilter4dDescriptor(kernel_, type, format, Int(g.filters), Int(product.depth()),
                                                        Int(g.window[0]), Int(g.window[1]))) &&
         LOCKSTEP_CUDA_CHECK(
             context, cudnnSetConvolution2dDescriptor(conv_, Int(g.pad[0]), Int(g.pad[1]), Int(product.stride[0]),
                                                      Int(product.stride[1]), Int(product.dilation[0]),
                                                      Int(product.dilation[1]), CUDNN_CROSS_CORRELATION, type)) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionGroupCount(conv_, Int(product.groups))) &&
         LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionMathType(conv_, math));
}

// What is not supported is no error: there are other ways to compute it.
bool LegacyConv::Choose(Context& context, bool keep_math) {
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
    case ConvPass::kForward:
      found = cudnnGetConvolutionForwardAlgorithm_v7(context.dnn, x_, kernel_, conv_, y_, kMostAlgorithms, &count,
                                                     forward.data()) == CUDNN_STATUS_SUCCESS &&
              take(forward, forward_);
      break;
    case ConvPass::kInput:
      found = cudnnGetConvolutionBackwardDataAlgorithm_v7(context.dnn, kernel_, y_, conv_, x_, kMostAlgorithms, &count,
                                                          input.data()) == CUDNN_STATUS_SUCCESS &&
              take(input, input_);
      break;
    case ConvPass::kKernel:
      found = cudnnGetConvolutionBackwardFilterAlgorithm_v7(context.dnn, x_, y_, conv_, kernel_, kMostAlgorithms,
                                                            &count, kernel.data()) == CUDNN_STATUS_SUCCESS &&
              take(kernel, kernel_algorithm_);
      break;
  }
  if (!found) return false;
  if (!keep_math && !LOCKSTEP_CUDA_CHECK(context, cudnnSetConvolutionMathType(conv_, math))) return false;
  return WorkspaceBytes(context) == CUDNN_STATUS_SUCCESS && bytes_ <= kConvWorkspaceLimit;
}

cudnnStatus_t LegacyConv::WorkspaceBytes(Context& context) {
  switch (pass_) {
    case ConvPass::kForward:
      return cudnnGetConvolutionForwardWorkspaceSize(context.dnn, x_, kernel_, conv_, y_, forward_, &bytes_);
    case ConvPass::kInput:
      return cudnnGetConvolutionBackwardDataWorkspaceSize(context.dnn, kernel_, y_, conv_, x_, input_, &bytes_);
    case ConvPass::kKernel:
      break;
  }
  return cudnnGetConvolutionBackwardFilterWorkspaceSize(context.dnn, x_, y_, conv_, kernel_, kernel_algorithm_,
                                                        &bytes_);
}

}  // namespace lockstep::cuda
