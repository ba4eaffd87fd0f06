// SPDX-License-Identifier: Apache-2.0
// A device that is too small is a failure of the job that says what it wanted.
#include "worker/train/out_of_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/trainer_fixture.h"
#include "worker/train/failure.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using OutOfMemoryTest = TrainerTest;

TEST_F(OutOfMemoryTest, TheJobFailsWithWhatTheRankWanted) {
  // Wherever it runs out: in the model, the optimizer, or later.
  bool fitted = false;
  int failed = 0;
  for (int64_t bytes = 1000; !fitted; bytes = bytes * 5 / 4) {
    const Outcome outcome = Train(1, std::to_string(bytes), {.device_bytes = bytes});
    fitted = outcome.status.ok();
    if (fitted) break;
    ++failed;
    EXPECT_TRUE(absl::IsResourceExhausted(outcome.status)) << outcome.status;
    EXPECT_TRUE(IsPermanent(outcome.status));
    ASSERT_EQ(outcome.failures.size(), 1u);
    EXPECT_THAT(outcome.failures[0], HasSubstr("RESOURCE_EXHAUSTED: "));
    EXPECT_THAT(outcome.failures[0], HasSubstr(" bytes wanted, but "));
    EXPECT_THAT(outcome.failures[0], HasSubstr("parameters 768 bytes, gradients 2.2 KiB, optimizer 1.5 KiB, "));
    EXPECT_THAT(outcome.failures[0], HasSubstr("lockstep plan"));
  }
  EXPECT_GT(failed, 5);
}

TEST_F(OutOfMemoryTest, OtherFailuresStayAsTheyAre) {
  const JobPlan plan;
  const absl::Status other = absl::UnavailableError("x"), resume = ResumeUnusable(absl::ResourceExhaustedError("y"));
  EXPECT_EQ(ExplainMemory(other, BlobSpec(), plan, 0, 1), other);
  EXPECT_EQ(ExplainMemory(resume, BlobSpec(), plan, 0, 1), resume);
}

}  // namespace
}  // namespace lockstep
