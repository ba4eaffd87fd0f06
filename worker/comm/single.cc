// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "worker/comm/communicator.h"

namespace lockstep {

namespace {

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  absl::Status Exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    if (!sends.empty() || !receives.empty()) {
      return absl::InternalError(absl::StrCat("a single rank has no peers, yet ", sends.size() + receives.size(),
                                              " messages were to be exchanged"));
    }
    return absl::OkStatus();
  }
  void Abort() override {}
  void set_timeout(std::chrono::milliseconds) override {}
};

}  // namespace

std::unique_ptr<Communicator> MakeSingleCommunicator() { return std::make_unique<SingleCommunicator>(); }

}  // namespace lockstep
