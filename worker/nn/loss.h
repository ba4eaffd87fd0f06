// SPDX-License-Identifier: Apache-2.0
// Loss: what training minimises.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "lockstep/v1/loss.pb.h"
#include "worker/device/device.h"

namespace lockstep {

class Loss {
 public:
  virtual ~Loss() = default;
  // True: the targets are class indices. False: numbers, or class indices 0 and 1 for one output where
  // loss.proto says so.
  virtual bool classification() const = 0;
  // Takes what memory it needs on the device; before the first Compute. The device outlives the loss.
  virtual absl::Status Prepare(Device& /*device*/) { return absl::OkStatus(); }
  // Adds the samples' losses to sum (kF64 [1]); overwrites doutput (null data: not wanted) with the
  // gradient of scale * (sum of the samples' losses). targets: kI32 [rows], or [rows, n] like output.
  virtual void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sum) = 0;
  // Not null: Compute is Device::SoftmaxCrossEntropy with these.
  virtual const CrossEntropyArgs* softmax_crossentropy() const { return nullptr; }
};

// The registry knows every kind of LossSpec.
std::unique_ptr<Loss> MakeLoss(const lockstep::v1::LossSpec& spec);

}  // namespace lockstep
