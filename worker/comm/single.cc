// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "worker/comm/aligned.h"
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
  absl::Status AllReduce(std::span<float>, std::span<double>) override { return absl::OkStatus(); }
  std::span<const int> host_ranks() const override { return {&kRank, 1}; }
  absl::StatusOr<HostWindow> MakeWindow(size_t bytes) override {
    windows_.push_back(MakeAligned<std::byte>(bytes));
    return HostWindow{{{windows_.back().get(), bytes}}};
  }
  bool may_spin() const override { return true; }
  void Abort() override {}
  bool aborted() const override { return false; }
  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const override { return timeout_; }

 private:
  static constexpr int kRank = 0;
  std::vector<AlignedArray<std::byte>> windows_;
  std::chrono::milliseconds timeout_{60'000};
};

}  // namespace

std::unique_ptr<Communicator> MakeSingleCommunicator() { return std::make_unique<SingleCommunicator>(); }

}  // namespace lockstep
