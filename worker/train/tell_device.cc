// SPDX-License-Identifier: Apache-2.0
#include "worker/train/tell_device.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {

void TellDevice(GrpcSession& session, int rank, const Agreement& agreed, const std::string& description) {
  session.set_device(description);
  if (rank != 0 || agreed.unused_gpus == 0) return;
  v1::SessionRequest warning;
  warning.mutable_warning()->set_message(absl::StrCat("all workers train on the CPU, though ", agreed.unused_gpus,
                                                      " of them found a GPU: ", agreed.why_cpu));
  session.Report(std::move(warning));
}

}  // namespace lockstep
