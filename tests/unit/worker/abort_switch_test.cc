// SPDX-License-Identifier: Apache-2.0
#include "worker/train/abort_switch.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(AbortSwitchTest, TellsAllThatIsArmedAndWhatComesLater) {
  AbortSwitch on_lost;
  int first = 0, second = 0, third = 0;
  on_lost.Arm([&] { ++first; });
  on_lost.Arm([&] { ++second; });
  EXPECT_FALSE(on_lost.pulled());
  on_lost.Pull();
  EXPECT_TRUE(on_lost.pulled());
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
  on_lost.Arm([&] { ++third; });
  EXPECT_EQ(third, 1);
}

TEST(AbortSwitchTest, ForgetsWhatIsGone) {
  AbortSwitch on_lost;
  int called = 0;
  on_lost.Arm([&] { ++called; });
  on_lost.Disarm();
  on_lost.Pull();
  EXPECT_EQ(called, 0);
}

}  // namespace
}  // namespace lockstep
