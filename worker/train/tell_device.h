// SPDX-License-Identifier: Apache-2.0
// Tells the coordinator what a rank trains on.
#pragma once

#include <string>

#include "worker/train/choose_device.h"
#include "worker/train/session.h"

namespace lockstep {

// Once all ranks have agreed: `description` is that of the device which is used. Where GPUs that were found are not,
// people read a warning from rank 0.
void TellDevice(GrpcSession& session, int rank, const Agreement& agreed, const std::string& description);

}  // namespace lockstep
