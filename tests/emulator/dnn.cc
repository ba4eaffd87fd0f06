// SPDX-License-Identifier: Apache-2.0
// cuDNN's functions for convolutions as its manual says, by plain loops. For groups there is no deterministic algorithm
// here, so that the device's own kernels run too.
#include <cudnn.h>

#include <algorithm>

#include "tests/emulator/capture.h"
#include "tests/emulator/convolve.h"

using lockstep::emulated::ConvWindow;
using lockstep::emulated::Enqueue;
using lockstep::emulated::Fits;
using lockstep::emulated::ForProducts;
using lockstep::emulated::Images;

struct cudnnTensorStruct : Images {};
struct cudnnFilterStruct : Images {};
struct cudnnConvolutionStruct : ConvWindow {
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace {

cudnnStatus_t Describe(Images& images, cudnnTensorFormat_t format, cudnnDataType_t type, int64_t n, int64_t c,
                       int64_t h, int64_t w) {
  if (format == CUDNN_TENSOR_NCHW_VECT_C || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  images = {.dims = {n, c, h, w}, .strides = {c * h * w, h * w, w, 1}, .type = type};
  if (format == CUDNN_TENSOR_NHWC) images.strides = {c * h * w, 1, w * c, c};
  return CUDNN_STATUS_SUCCESS;
}

// Channels last, strides of three are not supported, so that the way through the other layout is taken too.
bool Supports(cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y) {
  const bool last = y->strides[1] == 1 && y->strides[3] != 1;
  return conv->groups == 1 && !(last && conv->stride[0] == 3);
}

// A fast one that is not deterministic, and one that may be taken.
template <typename Found, typename Algorithm>
cudnnStatus_t List(cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y, Algorithm fast, Algorithm ordered,
                   int* count, Found* found) {
  if (lockstep::emulated::Capturing()) return CUDNN_STATUS_EXECUTION_FAILED;
  found[0] = {.algo = fast, .status = CUDNN_STATUS_SUCCESS, .determinism = CUDNN_NON_DETERMINISTIC};
  found[1] = {.algo = ordered,
              .status = Supports(conv, y) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED,
              .determinism = CUDNN_DETERMINISTIC,
              .mathType = conv->math};
  *count = 2;
  return CUDNN_STATUS_SUCCESS;
}

struct Floats {
  float* out;
  const float* left;
  const float* right;
  Floats(void* to, const void* a, const void* b)
      : out(static_cast<float*>(to)), left(static_cast<const float*>(a)), right(static_cast<const float*>(b)) {}
};

// add(index in x, index in the kernel, index in y) for each product, into `to` of zeros.
template <typename Add>
cudnnStatus_t Convolve(const Images* x, const Images* k, const ConvWindow* window, const Images* y, float* out,
                       const Images& to, Add add) {
  // Descriptors are the caller's again on return.
  Enqueue([x = *x, k = *k, window = *window, y = *y, out, n = to.elements(), add] {
    std::fill_n(out, n, 0.0f);
    ForProducts(x, k, window, y, add);
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = nullptr;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }
size_t cudnnGetVersion() { return 0; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "an error of the emulated cuDNN"; }

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) {
  *tensor = new cudnnTensorStruct{};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
  delete tensor;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  return Describe(*tensor, format, type, n, c, h, w);
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) {
  *filter = new cudnnFilterStruct{};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
  delete filter;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return Describe(*filter, format, type, k, c, h, w);
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* conv) {
  *conv = new cudnnConvolutionStruct{};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t conv) {
  delete conv;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t type) {
  if (mode != CUDNN_CROSS_CORRELATION || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  *conv = {};
  conv->pad = {pad_h, pad_w};
  conv->stride = {u, v};
  conv->dilation = {dilation_h, dilation_w};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t conv, int groups) {
  conv->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t math) {
  conv->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                     cudnnFilterDescriptor_t k, cudnnConvolutionDescriptor_t conv,
                                                     cudnnTensorDescriptor_t y, int, int* count,
                                                     cudnnConvolutionFwdAlgoPerf_t* found) {
  if (!Fits(*x, *k, *conv, *y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, y, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t k,
                                                          cudnnTensorDescriptor_t y, cudnnConvolutionDescriptor_t conv,
                                                          cudnnTensorDescriptor_t x, int, int* count,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* found) {
  if (!Fits(*x, *k, *conv, *y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, y, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                            cudnnTensorDescriptor_t y,
                                                            cudnnConvolutionDescriptor_t conv,
                                                            cudnnFilterDescriptor_t k, int, int* count,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* found) {
  if (!Fits(*x, *k, *conv, *y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, y, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, count, found);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t,
                                                      cudnnConvolutionDescriptor_t, cudnnTensorDescriptor_t,
                                                      cudnnConvolutionFwdAlgo_t, size_t* bytes) {
  *bytes = 1024;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t,
                                                           cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t,
                                                           cudnnTensorDescriptor_t, cudnnConvolutionBwdDataAlgo_t,
                                                           size_t* bytes) {
  *bytes = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t,
                                                             cudnnTensorDescriptor_t, cudnnConvolutionDescriptor_t,
                                                             cudnnFilterDescriptor_t, cudnnConvolutionBwdFilterAlgo_t,
                                                             size_t* bytes) {
  *bytes = 1024;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void*, cudnnTensorDescriptor_t xd, const void* x,
                                      cudnnFilterDescriptor_t kd, const void* k, cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t, void*, size_t, const void*, cudnnTensorDescriptor_t yd,
                                      void* y) {
  const auto [out, left, right] = Floats(y, x, k);
  return Convolve(xd, kd, conv, yd, out, *yd, [=](int64_t a, int64_t b, int64_t c) { out[c] += left[a] * right[b]; });
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void*, cudnnFilterDescriptor_t kd, const void* k,
                                           cudnnTensorDescriptor_t yd, const void* dy,
                                           cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdDataAlgo_t, void*,
                                           size_t, const void*, cudnnTensorDescriptor_t xd, void* dx) {
  const auto [out, left, right] = Floats(dx, dy, k);
  return Convolve(xd, kd, conv, yd, out, *xd, [=](int64_t a, int64_t b, int64_t c) { out[a] += left[c] * right[b]; });
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void*, cudnnTensorDescriptor_t xd, const void* x,
                                             cudnnTensorDescriptor_t yd, const void* dy,
                                             cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdFilterAlgo_t, void*,
                                             size_t, const void*, cudnnFilterDescriptor_t kd, void* dk) {
  const auto [out, left, right] = Floats(dk, dy, x);
  return Convolve(xd, kd, conv, yd, out, *kd, [=](int64_t a, int64_t b, int64_t c) { out[b] += left[c] * right[a]; });
}

}  // extern "C"
