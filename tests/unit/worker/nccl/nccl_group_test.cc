// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/nccl/nccl_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/worker/nccl/fake_nccl.h"

namespace lockstep::nccl {
namespace {

using ::testing::HasSubstr;

class NcclGroupTest : public ::testing::Test {
 protected:
  GroupOptions Options() {
    return {.rank = 1, .size = 2, .timeout = std::chrono::seconds(5), .clock = &clock_, .pause = [this] {
              clock_.Advance(std::chrono::seconds(1));
              if (on_pause_) on_pause_();
            }};
  }
  absl::StatusOr<std::unique_ptr<NcclGroup>> Join() {
    return NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()), Options());
  }
  FakeGpus gpus_{2};
  FakeClock clock_;
  std::function<void()> on_pause_;
};

TEST_F(NcclGroupTest, MeetsWithoutBlockingAndParts) {
  gpus_.busy_looks = 3;
  auto group = Join();
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(gpus_.busy_looks, 0);
  EXPECT_EQ((*group)->rank(), 1);
  EXPECT_TRUE((*group)->Close().ok());
  EXPECT_EQ(gpus_.destroyed, 1);
  group->reset();
  EXPECT_EQ(gpus_.aborts, 0);
}

TEST_F(NcclGroupTest, AnIdOfAnotherLengthIsRefused) {
  const auto group = NcclGroup::Join(&FakeGpus::Api(), "short", Options());
  EXPECT_EQ(group.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NcclGroupTest, WhoIsToldToGiveUpDoesNotWaitForTheOthersToCome) {
  gpus_.busy_looks = 1000;
  std::atomic<bool> given_up{false};
  GroupOptions options = Options();
  options.given_up = &given_up;
  on_pause_ = [&] { given_up = true; };
  const auto group = NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()), options);
  EXPECT_EQ(group.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, RanksThatDoNotComeAreNotAwaitedForEver) {
  gpus_.busy_looks = 1000;
  const auto group = Join();
  EXPECT_EQ(group.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(group.status().message(), HasSubstr("NCCL_SOCKET_IFNAME"));
  EXPECT_THAT(group.status().message(), HasSubstr("rank 1 of 2"));
  EXPECT_GT(gpus_.busy_looks, 900);
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, AFailureSaysWhatToDoAndAborts) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  gpus_.async_error = kRemoteError;
  const absl::Status status = (*group)->Enqueue("to sum gradients", [](Comm) { return kSuccess; });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("asked NCCL to sum gradients: an error (more words); another rank"));
  EXPECT_EQ(gpus_.aborts, 1);
  EXPECT_EQ((*group)->Enqueue("more", [](Comm) { return kSuccess; }).code(), absl::StatusCode::kAborted);
  group->reset();
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, AnErrorOfAPeerEndsAWait) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  int looks = 0;
  const absl::Status status = (*group)->Await("to sum", [&]() -> absl::StatusOr<bool> {
    if (++looks == 3) gpus_.async_error = kSystemError;
    return false;
  });
  EXPECT_THAT(status.message(), HasSubstr("/dev/shm"));
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, AWaitEndsAtItsDeadline) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  EXPECT_TRUE((*group)->Await("to sum", [] { return absl::StatusOr<bool>(true); }).ok());
  const absl::Status status = (*group)->Await("to sum", [] { return absl::StatusOr<bool>(false); });
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, AbortEndsAWaitAndIsDoneOnce) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  on_pause_ = [&] { (*group)->Abort(); };
  const absl::Status status = (*group)->Await("to sum", [] { return absl::StatusOr<bool>(false); });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  (*group)->Abort();
  EXPECT_EQ(gpus_.aborts, 1);
  EXPECT_TRUE((*group)->aborted());
  EXPECT_EQ((*group)->Close().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(gpus_.destroyed, 0);
}

// NCCL's abort waits until no graph is left that its operations were recorded in.
TEST_F(NcclGroupTest, WhatWasRecordedIsGoneBeforeACallAborts) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  bool recorded = true;
  (*group)->set_release([&] { recorded = false; });
  gpus_.on_abort = [&] { EXPECT_FALSE(recorded); };
  gpus_.async_error = kRemoteError;
  EXPECT_FALSE((*group)->Enqueue("to sum gradients", [](Comm) { return kSuccess; }).ok());
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST_F(NcclGroupTest, AnAbortThatWaitsForWhatWasRecordedHoldsUpNobodyWhoCanLetGoOfIt) {
  auto group = Join();
  ASSERT_TRUE(group.ok());
  std::atomic<bool> begun = false, recorded = true;
  gpus_.on_abort = [&] {
    begun = true;
    begun.notify_all();
    recorded.wait(true);
  };
  std::thread aborting([&] { (*group)->Abort(); });
  begun.wait(false);
  EXPECT_EQ((*group)->Check("to sum").code(), absl::StatusCode::kAborted);
  EXPECT_EQ((*group)->Enqueue("to sum", [](Comm) { return kSuccess; }).code(), absl::StatusCode::kAborted);
  EXPECT_EQ((*group)->Await("to sum", [] { return absl::StatusOr<bool>(false); }).code(), absl::StatusCode::kAborted);
  recorded = false;
  recorded.notify_all();
  aborting.join();
  EXPECT_EQ(gpus_.aborts, 1);
}

TEST(LoadNcclTest, SaysWhereItLooked) {
  const auto api = LoadNccl({"/nowhere/first"}, {"/nowhere/last"});
  // A machine may have one.
  if (api.ok()) {
    EXPECT_NE((*api)->CommAbort, nullptr);
    return;
  }
  EXPECT_THAT(api.status().message(), HasSubstr("LOCKSTEP_CUDA_LIB_PATH"));
  if (api.status().code() == absl::StatusCode::kNotFound) {
    EXPECT_THAT(api.status().message(), HasSubstr("/nowhere/first"));
  }
}

}  // namespace
}  // namespace lockstep::nccl
