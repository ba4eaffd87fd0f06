// SPDX-License-Identifier: Apache-2.0
// Which engines cuDNN has for convolutions on an H200. It tells where there is no GPU too, once it knows the properties
// of one: a handle, which wants a GPU, is replaced by them in each call that names one.
#include <cudnn.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/cuda/conv_graph.h"

namespace {

// As cuDNN writes and reads it.
constexpr char kH200[] =
    R"({"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
        "multiProcessorCount": 132, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000, "l2CacheSize": 62914560,
        "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
        "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "pciDeviceId": 0, "maxCtasPerSM": 32,
        "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "isTccDriver": 0, "supportCoopLaunch": 1,
        "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "totalGlobalMem": 150000000000,
        "deviceName": "NVIDIA H200"})";
// Before it, cuDNN takes no properties.
constexpr size_t kFirstVersion = 90800;

cudnnBackendDescriptor_t gpu = nullptr;

}  // namespace

extern "C" {
cudnnStatus_t __real_cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                              cudnnBackendAttributeType_t, int64_t, const void*);
cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  const auto set = [&](cudnnBackendAttributeName_t property) {
    return __real_cudnnBackendSetAttribute(descriptor, property, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &gpu);
  };
  if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE) return CUDNN_STATUS_SUCCESS;
  if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE) return set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
  if (name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH) {
    if (const cudnnStatus_t status = set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP); status != CUDNN_STATUS_SUCCESS)
      return status;
  }
  return __real_cudnnBackendSetAttribute(descriptor, name, type, count, values);
}
}

namespace lockstep::cuda {
namespace {

struct Layer {
  const char* name;
  int64_t channels, filters, size, window, stride;
};
// Of ResNet-18 on 224x224, and a small one.
constexpr Layer kLayers[] = {
    {"first", 3, 64, 224, 7, 2},      {"stage 1", 64, 64, 56, 3, 1},   {"into 2", 64, 128, 56, 3, 2},
    {"beside 2", 64, 128, 56, 1, 2},  {"stage 2", 128, 128, 28, 3, 1}, {"into 3", 128, 256, 28, 3, 2},
    {"beside 3", 128, 256, 28, 1, 2}, {"stage 3", 256, 256, 14, 3, 1}, {"into 4", 256, 512, 14, 3, 2},
    {"beside 4", 256, 512, 14, 1, 2}, {"stage 4", 512, 512, 7, 3, 1},  {"small", 1, 8, 28, 5, 1}};

class CudnnEnginesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cudnnGetVersion() < kFirstVersion) GTEST_SKIP() << "this cuDNN does not tell without a GPU";
    ASSERT_EQ(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &gpu), CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(__real_cudnnBackendSetAttribute(gpu, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                              sizeof(kH200), kH200),
              CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(cudnnBackendFinalize(gpu), CUDNN_STATUS_SUCCESS);
  }
  void TearDown() override {
    if (gpu != nullptr) cudnnBackendDestroyDescriptor(gpu);
    gpu = nullptr;
  }

  std::unique_ptr<GraphConv> Make(const Layer& layer, ConvPass pass, const ConvTypes& types,
                                  const ConvEpilogue& epilogue) {
    constexpr int64_t kRows = 256;
    const int64_t pad = layer.window / 2, out = (layer.size + 2 * pad - layer.window) / layer.stride + 1;
    WindowArgs args;
    args.size = {layer.window, layer.window};
    args.stride = {layer.stride, layer.stride};
    args.pad_begin = args.pad_end = {pad, pad};
    args.precision = ProductPrecision::kBf16;
    const Shape x{kRows, layer.channels, layer.size, layer.size}, y{kRows, layer.filters, out, out};
    const ConvProduct product{.pass = pass,
                              .layout = Layout::kImages,
                              .geometry = ConvGeometryOf(args, x, y, Layout::kImages),
                              .stride = args.stride,
                              .precision = args.precision};
    return GraphConv::Make(context_, product, types, epilogue);
  }

 private:
  Workspace workspace_;
  Failure failure_;
  Context context_{.workspace = workspace_, .failure = failure_};
};

constexpr ConvPass kPasses[] = {ConvPass::kForward, ConvPass::kInput, ConvPass::kKernel};
constexpr DType kHalves[] = {DType::kBF16, DType::kF16};

TEST_F(CudnnEnginesTest, EachConvolutionOfResNetHasOneThatNeedNotBeCompiled) {
  for (const Layer& layer : kLayers) {
    for (const ConvPass pass : kPasses) {
      SCOPED_TRACE(absl::StrCat(layer.name, ", pass ", static_cast<int>(pass)));
      EXPECT_NE(Make(layer, pass, {}, {}), nullptr);
      for (const DType half : kHalves) EXPECT_NE(Make(layer, pass, {.factors = half, .result = half}, {}), nullptr);
    }
  }
}

// So a kernel's gradient is rounded once more.
TEST_F(CudnnEnginesTest, NoneOfHalvesHasAResultOfFloats) {
  for (const DType half : kHalves) {
    for (const ConvPass pass : kPasses) {
      EXPECT_EQ(Make(kLayers[1], pass, {.factors = half}, {}), nullptr)
          << "pass " << static_cast<int>(pass) << ": this cuDNN can do better than the one that conv.cc is made for";
    }
  }
}

TEST_F(CudnnEnginesTest, BiasAndReluAreBehindIt) {
  for (const Layer& layer : kLayers) {
    SCOPED_TRACE(layer.name);
    for (const ConvEpilogue& epilogue : {ConvEpilogue{.bias = true, .relu = true}, ConvEpilogue{.bias = true}}) {
      EXPECT_NE(Make(layer, ConvPass::kForward, {}, epilogue), nullptr);
      for (const DType half : kHalves) {
        EXPECT_NE(Make(layer, ConvPass::kForward, {.factors = half, .result = half}, epilogue), nullptr);
      }
    }
  }
}

// It is given a bias of zeros then.
TEST_F(CudnnEnginesTest, ReluAloneIsNot) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    EXPECT_EQ(Make(kLayers[1], ConvPass::kForward, {.factors = type, .result = type}, {.relu = true}), nullptr);
  }
}

}  // namespace
}  // namespace lockstep::cuda
