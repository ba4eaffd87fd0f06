// SPDX-License-Identifier: Apache-2.0
// What the CPU promises of images in its own layout, beside what every device does.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/conformance/arrays.h"
#include "worker/device/device.h"

namespace lockstep::conformance {
namespace {

// Shapes that its layout cannot take, or that it would slow down, keep the order of the shape.
TEST(CpuImagesTest, OddShapesStayRowMajor) {
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const Shape x{16, 8, 9, 9}, kernel{8, 8, 3, 3};
  const auto layout = [&](const WindowArgs& args, const Shape& of) {
    return device->ImageLayout(args, of, kernel, DType::kF32);
  };
  EXPECT_EQ(layout({.size = {3, 3}, .stride = {2, 2}, .dilation = {2, 2}}, x), Layout::kRowMajor);
  EXPECT_EQ(layout({.size = {3, 3}}, Shape{2, 8, 9, 9}), Layout::kRowMajor);
  EXPECT_EQ(layout({.size = {3, 3}}, x), Layout::kImages);
}

// How many threads share the blocks out changes no sum but a kernel's gradient, and nothing from run to run.
TEST(CpuImagesTest, EachCountGivesTheSameBitsAgain) {
  const Shape x_shape{64, 6, 8, 8}, y_shape{64, 16, 4, 4}, kernel{16, 6, 5, 5};
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 1, 3, 3}) {
    const std::unique_ptr<Device> device = MakeCpuDevice(threads);
    Arrays arrays(device.get());
    const auto images = [&](const Shape& shape) {
      return Tensor{arrays.Zeros({device->LayoutElements(shape, Layout::kImages)}, DType::kF32).data, shape,
                    DType::kF32, Layout::kImages};
    };
    const Tensor x = images(x_shape), dy = images(y_shape);
    device->Relayout(arrays.Random(x_shape, DType::kF32, 13), x);
    device->Relayout(arrays.Random(y_shape, DType::kF32, 14), dy);
    const Tensor dkernel = arrays.Zeros(kernel, DType::kF32);
    device->ConvBackwardKernel({.size = {5, 5}}, x, dy, dkernel, {});
    found.emplace_back(dkernel.as<float>(), dkernel.as<float>() + dkernel.elements());
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[2], found[3]);
}

}  // namespace
}  // namespace lockstep::conformance
