// SPDX-License-Identifier: Apache-2.0
// cuDNN's convolutions as its manual says, by plain loops. For groups there is no deterministic algorithm here, so that
// the device's own kernels run too.
#include <cudnn.h>

#include <algorithm>

struct cudnnTensorStruct {
  int n, c, h, w;
};
struct cudnnFilterStruct {
  int k, c, h, w;
};
struct cudnnConvolutionStruct {
  int pad[2], stride[2], dilation[2], groups = 1;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace {

// visit(index in x, index in the kernel, index in y) of every product.
template <typename Visit>
void ForProducts(cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t k, cudnnConvolutionDescriptor_t conv,
                 cudnnTensorDescriptor_t y, Visit visit) {
  for (int n = 0; n < y->n; ++n) {
    for (int f = 0; f < k->k; ++f) {
      for (int at = 0; at < y->h * y->w * k->c * k->h * k->w; ++at) {
        const int q = at % k->w, p = at / k->w % k->h, c = at / (k->w * k->h) % k->c;
        const int place = at / (k->w * k->h * k->c), i = place / y->w, j = place % y->w;
        const int row = i * conv->stride[0] - conv->pad[0] + p * conv->dilation[0];
        const int column = j * conv->stride[1] - conv->pad[1] + q * conv->dilation[1];
        if (row < 0 || row >= x->h || column < 0 || column >= x->w) continue;
        const int channel = f / (k->k / conv->groups) * k->c + c;
        visit(((n * x->c + channel) * x->h + row) * x->w + column, ((f * k->c + c) * k->h + p) * k->w + q,
              ((n * y->c + f) * y->h + i) * y->w + j);
      }
    }
  }
}

// What the library checks before it computes: that the output is of the size that follows.
bool Fits(cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t k, cudnnConvolutionDescriptor_t conv,
          cudnnTensorDescriptor_t y) {
  const auto out = [&](int in, int size, int axis) {
    return (in + 2 * conv->pad[axis] - ((size - 1) * conv->dilation[axis] + 1)) / conv->stride[axis] + 1;
  };
  return x->c == k->c * conv->groups && y->c == k->k && x->n == y->n && y->h == out(x->h, k->h, 0) &&
         y->w == out(x->w, k->w, 1);
}

// A fast one that is not deterministic, and one that may be taken.
template <typename Found, typename Algorithm>
cudnnStatus_t List(cudnnConvolutionDescriptor_t conv, Algorithm fast, Algorithm ordered, int* count, Found* found) {
  found[0] = {.algo = fast, .status = CUDNN_STATUS_SUCCESS, .determinism = CUDNN_NON_DETERMINISTIC};
  found[1] = {.algo = ordered,
              .status = conv->groups == 1 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED,
              .determinism = CUDNN_DETERMINISTIC,
              .mathType = conv->math};
  *count = 2;
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
  if (format != CUDNN_TENSOR_NCHW || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  *tensor = {n, c, h, w};
  return CUDNN_STATUS_SUCCESS;
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
  if (format != CUDNN_TENSOR_NCHW || type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  *filter = {k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
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
  *conv = {.pad = {pad_h, pad_w}, .stride = {u, v}, .dilation = {dilation_h, dilation_w}};
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
  if (!Fits(x, k, conv, y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t k,
                                                          cudnnTensorDescriptor_t y, cudnnConvolutionDescriptor_t conv,
                                                          cudnnTensorDescriptor_t x, int, int* count,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* found) {
  if (!Fits(x, k, conv, y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, count, found);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                            cudnnTensorDescriptor_t y,
                                                            cudnnConvolutionDescriptor_t conv,
                                                            cudnnFilterDescriptor_t k, int, int* count,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* found) {
  if (!Fits(x, k, conv, y)) return CUDNN_STATUS_BAD_PARAM;
  return List(conv, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, count, found);
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
  float* out = static_cast<float*>(y);
  std::fill_n(out, yd->n * yd->c * yd->h * yd->w, 0.0f);
  ForProducts(xd, kd, conv, yd, [&](int a, int b, int c) {
    out[c] += static_cast<const float*>(x)[a] * static_cast<const float*>(k)[b];
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void*, cudnnFilterDescriptor_t kd, const void* k,
                                           cudnnTensorDescriptor_t yd, const void* dy,
                                           cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdDataAlgo_t, void*,
                                           size_t, const void*, cudnnTensorDescriptor_t xd, void* dx) {
  float* out = static_cast<float*>(dx);
  std::fill_n(out, xd->n * xd->c * xd->h * xd->w, 0.0f);
  ForProducts(xd, kd, conv, yd, [&](int a, int b, int c) {
    out[a] += static_cast<const float*>(dy)[c] * static_cast<const float*>(k)[b];
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void*, cudnnTensorDescriptor_t xd, const void* x,
                                             cudnnTensorDescriptor_t yd, const void* dy,
                                             cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdFilterAlgo_t, void*,
                                             size_t, const void*, cudnnFilterDescriptor_t kd, void* dk) {
  float* out = static_cast<float*>(dk);
  std::fill_n(out, kd->k * kd->c * kd->h * kd->w, 0.0f);
  ForProducts(xd, kd, conv, yd, [&](int a, int b, int c) {
    out[b] += static_cast<const float*>(dy)[c] * static_cast<const float*>(x)[a];
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
