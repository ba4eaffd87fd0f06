// SPDX-License-Identifier: Apache-2.0
// Loss: what training minimises, with the sums that the metrics are made of.
#pragma once

#include <memory>

#include "lockstep/v1/loss.pb.h"
#include "worker/device/device.h"

namespace lockstep {

// Sums over samples, so that parts of a batch or of a data set can be added in a fixed order.
struct LossSums {
  double loss = 0;
  // Classification: right predictions. Regression: sum of squared errors.
  double correct = 0;
  double squared_error = 0;
  // Regression: sum of the targets and of their squares, for R².
  double target = 0;
  double target_squared = 0;

  static constexpr int kCount = 5;
};

class Loss {
 public:
  virtual ~Loss() = default;
  // Width of the stats the device is given: 2 or 4 doubles (see Device).
  virtual int stats_width() const = 0;
  virtual bool classification() const = 0;
  // Adds to stats (kF64 [stats_width]); overwrites doutput (null data: not wanted) with the gradient
  // of scale * (sum of the samples' losses). targets: kI32 [rows], or [rows, n] like output.
  virtual void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor stats) = 0;
  virtual LossSums Sums(const double* stats) const = 0;
};

std::unique_ptr<Loss> MakeLoss(const lockstep::v1::LossSpec& spec);

}  // namespace lockstep
