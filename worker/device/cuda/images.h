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

// `type`: what a factor is copied into, kBF16, kF16, or kF32: floats, rounded to the product's precision where that is
// one of 16 bits.
//
// to: [rows, size, library_channels] of the geometry, zeros around the images and in the channels that they lack.
// from: [rows, in, channels].
void PackImages(Context& context, const ConvGeometry& geometry, ProductPrecision precision, DType type,
                const float* from, void* to);
// from: [filters, channels, window], to: [filters, window, library_channels].
void PackKernel(Context& context, const ConvGeometry& geometry, ProductPrecision precision, DType type,
                const float* from, void* to);
// The way back, of floats: what the library added is left out.
void UnpackImages(Context& context, const ConvGeometry& geometry, const float* from, float* to);
void UnpackKernel(Context& context, const ConvGeometry& geometry, const float* from, float* to);

}  // namespace lockstep::cuda
