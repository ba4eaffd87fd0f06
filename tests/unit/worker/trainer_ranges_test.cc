// SPDX-License-Identifier: Apache-2.0
// What a profiler is told of a training step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/trainer_fixture.h"
#include "worker/device/range_marker.h"

namespace lockstep {
namespace {

using ::testing::ElementsAreArray;

// The names of the ranges inside of the outermost ones, in the order in which they begin.
class KeptRanges final : public RangeMarker {
 public:
  struct Outer {
    std::string name;
    std::vector<std::string> inner;
  };
  void Begin(const char* name) override {
    if (depth_++ == 0) {
      all.push_back({name, {}});
    } else {
      all.back().inner.emplace_back(name);
      deepest = std::max(deepest, depth_);
    }
  }
  void End() override { --depth_; }
  int depth() const { return depth_; }

  std::vector<Outer> all;
  int deepest = 0;

 private:
  int depth_ = 0;
};

class TrainerRangesTest : public TrainerTest, public testing::WithParamInterface<bool> {
 protected:
  TrainOptions Options(RangeMarker* ranges) const {
    TrainOptions options{.spec = BlobSpec(), .ranges = ranges};
    options.spec.mutable_training()->set_epochs(1);
    if (GetParam()) options.device = [] { return std::make_unique<FarDevice>(); };
    return options;
  }
  // With a failpoint every step goes through the host.
  TrainOptions EachStep(RangeMarker* ranges, int fails_at) const {
    std::ofstream(folder_ / "failpoints") << "step.before_apply error hit=" << fails_at << "\n";
    TrainOptions options = Options(ranges);
    options.failpoints = folder_ / "failpoints";
    return options;
  }
};

TEST_P(TrainerRangesTest, EachStepHasItsPartsByName) {
  KeptRanges ranges;
  const Outcome outcome = Train(1, "watched", EachStep(&ranges, /*fails_at=*/1000));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(ranges.depth(), 0);
  EXPECT_EQ(ranges.deepest, 2);
  std::vector<std::string> parts;
  for (int shard = 0; shard < 4; ++shard) {
    for (const char* part : {"data", "dense forward", "dropout forward", "dense_1 forward", "loss", "dense_1 backward",
                             "dropout backward", "dense/relu backward", "dense backward"}) {
      parts.emplace_back(part);
    }
  }
  parts.insert(parts.end(), {"gradient sum", "update"});
  int steps = 0;
  for (const KeptRanges::Outer& outer : ranges.all) {
    if (outer.name != "step") continue;
    ++steps;
    EXPECT_THAT(outer.inner, ElementsAreArray(parts));
  }
  EXPECT_EQ(steps, 32);
}

TEST_P(TrainerRangesTest, TheBitsAreThoseWithoutThem) {
  KeptRanges ranges;
  EXPECT_EQ(Train(1, "watched", Options(&ranges)).model_sha256, Train(1, "alone", Options(nullptr)).model_sha256);
}

TEST_P(TrainerRangesTest, StepsThatTheDeviceDoesAloneAreOneRange) {
  KeptRanges ranges;
  ASSERT_TRUE(Train(1, "watched", Options(&ranges)).status.ok());
  EXPECT_EQ(ranges.depth(), 0);
  const auto recorded = [](const KeptRanges::Outer& outer) { return outer.name == "recorded steps"; };
  // The CPU does none.
  EXPECT_EQ(std::ranges::any_of(ranges.all, recorded), GetParam());
}

TEST_P(TrainerRangesTest, AStepThatFailsEndsItsRanges) {
  KeptRanges ranges;
  EXPECT_FALSE(Train(1, "failed", EachStep(&ranges, /*fails_at=*/3)).status.ok());
  EXPECT_EQ(ranges.depth(), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, TrainerRangesTest, testing::Bool(),
                         [](const auto& p) { return p.param ? "far" : "cpu"; });

}  // namespace
}  // namespace lockstep
