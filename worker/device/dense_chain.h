// SPDX-License-Identifier: Apache-2.0
// DenseChain: all that a step computes of a small network of dense layers, as one operation. One by one its products
// take less time than a GPU takes to begin them.
#pragma once

#include <span>

#include "worker/device/device.h"

namespace lockstep {

// y = activation(x kernel + bias), and the gradients of kernel and bias. All kF32.
struct ChainLayer {
  // [inputs, units]; [units], or null data.
  Tensor kernel;
  Tensor bias;
  ActivationArgs activation;
  // [rows, units]: becomes the layer's output.
  Tensor y;
  // As kernel and bias.
  Tensor dkernel;
  Tensor dbias;
};

// Forward, the loss, and backward, which overwrites the gradients.
struct DenseChain {
  // kF32 [rows, inputs].
  Tensor x;
  // In the order of the arithmetic: each takes what the one before it puts out.
  std::span<const ChainLayer> layers;
  // The flat array that holds every dkernel and dbias. What lies between them, and behind the last, becomes zero.
  Tensor gradient;
  // See Device::SoftmaxCrossEntropy: of the last layer's output.
  CrossEntropyArgs loss;
  Tensor targets;
  double scale = 1;
  // kF64 [1]: adds the rows' losses, in an order that the rows alone decide.
  Tensor loss_sum;
  // kF64 [1]: adds what Device::CountTopK counts for k = 1; null data: not wanted.
  Tensor hits;
};

}  // namespace lockstep
