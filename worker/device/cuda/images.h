// SPDX-License-Identifier: Apache-2.0
// Images of Layout::kImages lie channels last on this device, [rows, height, width, channels], which cuDNN's kernels
// for tensor cores read as they are. What the library cannot take so is copied on its way: factors of 16 bits, channels
// and zeros around the images that only the library sees.
#pragma once

#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// See Device.
void Relayout(Context& context, Tensor from, Tensor to);

// to: [rows, size, library_channels] of the geometry, zeros around the images and in the channels that they lack, of
// from's type. from: [rows, in, channels]; floats are rounded to the product's precision where that is one of 16 bits.
void PackImages(Context& context, const ConvGeometry& geometry, ProductPrecision precision, const Tensor& from,
                void* to);
// to: [filters, window, library_channels] of `type`, rounded as images are, and behind it [filters]: the bias, or zeros
// where it has null data. kernel: [filters, channels, window].
void PackKernel(Context& context, const ConvGeometry& geometry, ProductPrecision precision, DType type,
                const float* kernel, const float* bias, void* to);
// The way back: what the library added is left out. from: of to's type.
void UnpackImages(Context& context, const ConvGeometry& geometry, const void* from, const Tensor& to);
// from: of `type`.
void UnpackKernel(Context& context, const ConvGeometry& geometry, DType type, const void* from, float* to);

}  // namespace lockstep::cuda
