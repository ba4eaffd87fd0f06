// SPDX-License-Identifier: Apache-2.0
// What is done around a library's convolutions of row-major images, and convolutions without one: in double, and of
// shapes that the library has no deterministic algorithm for. Kernels are row-major; so are images but where it says
// so.
#pragma once

#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// to = from, rounded to 16 bits, in floats. n of them.
void RoundToFloats(Context& context, ProductPrecision precision, const float* from, int64_t n, float* to);
// to: [rows, channels, size] of the geometry, zeros around the images; rounded too.
void PadImages(Context& context, const ConvGeometry& geometry, ProductPrecision precision, const float* from,
               float* to);
// to = the images of a padded copy. to: [rows, channels, in].
void CropImages(Context& context, const ConvGeometry& geometry, const float* from, float* to);

// y = activation(y + bias). y: [rows, filters, ...] in any layout; bias: [filters] or null data.
void PlaneBiasActivation(Context& context, const ActivationArgs& activation, Tensor bias, Tensor y);
// dbias[f] = sum of dy[:, f, ...], in double; dy in any layout.
void PlaneBiasGradient(Context& context, Tensor dy, Tensor dbias);

// The products alone, of any type. Each output is one sum in order, but for the kernel's: a tree over 256 sums.
void DirectForward(Context& context, const WindowArgs& args, Tensor x, Tensor kernel, Tensor y);
void DirectBackwardInput(Context& context, const WindowArgs& args, Tensor dy, Tensor kernel, Tensor dx);
void DirectBackwardKernel(Context& context, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel);

}  // namespace lockstep::cuda
