// SPDX-License-Identifier: Apache-2.0
// A device whose memory is not the host's trains the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/far_reducer.h"
#include "tests/unit/worker/trainer_fixture.h"
#include "worker/comm/tree_reduce.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

class FarTrainerTest : public TrainerTest {
 protected:
  Outcome TrainFar(int ranks, const std::string& output, TrainOptions options = {}) {
    options.device = [] { return std::make_unique<FarDevice>(); };
    options.run_seconds = 60;
    return Train(ranks, "far-" + output, options);
  }
  void ExpectAlike(const v1::JobSpec& spec, int ranks) {
    const Outcome near = Train(ranks, "near", {.spec = spec}), far = TrainFar(ranks, "far", {.spec = spec});
    EXPECT_TRUE(far.status.ok()) << far.status;
    EXPECT_EQ(far.model_sha256.size(), 64u);
    EXPECT_EQ(far.model_sha256, near.model_sha256) << ranks << " ranks";
    const auto near_epochs = Epochs(near), far_epochs = Epochs(far);
    ASSERT_EQ(far_epochs.size(), near_epochs.size());
    for (size_t i = 0; i < far_epochs.size(); ++i) {
      EXPECT_EQ(far_epochs[i].SerializeAsString(), near_epochs[i].SerializeAsString()) << "epoch " << i;
    }
  }
  v1::JobSpec part_;

  static v1::JobSpec WithOptimizer(const std::string& json) {
    v1::JobSpec spec = BlobSpec();
    spec.mutable_optimizer()->Clear();
    const auto status = google::protobuf::util::JsonStringToMessage(json, spec.mutable_optimizer());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return spec;
  }
};

TEST_F(FarTrainerTest, TrainsTheSameBitsWithAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 4}) ExpectAlike(BlobSpec(), ranks);
}

TEST_F(FarTrainerTest, ARunGoesOnBehindADigest) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_digest_interval_steps(5);
  const Outcome near = Train(1, "near", {.spec = spec});
  const int64_t before = FarRecorder::runs;
  const Outcome far = TrainFar(1, "far", {.spec = spec});
  ASSERT_TRUE(far.status.ok()) << far.status;
  EXPECT_EQ(DigestsOf(far), DigestsOf(near));
  // Up to three times five steps, where no epoch ends.
  EXPECT_GT(far.result.recorded_steps, 7 * (FarRecorder::runs - before));
}

// With a reducer on the device, as many as are `made`; `told` counts what backward said.
TrainOptions OnTheDevice(std::atomic<int>& made, std::atomic<int>& fastest, std::atomic<int>& told) {
  TrainOptions options;
  options.device_reducer = [&](Device* device, Communicator* communicator) -> DeviceReducerFactory {
    return [&, device, communicator](const ReducerNeeds& needs) -> absl::StatusOr<std::unique_ptr<Reducer>> {
      ++made;
      if (needs.fastest) ++fastest;
      EXPECT_EQ(needs.shards, 4);
      // Kernel and bias of both dense layers.
      std::vector<int> layers;
      for (const GradientSpan& span : needs.spans) layers.push_back(span.layer);
      EXPECT_THAT(layers, ::testing::ElementsAre(0, 0, 3, 3));
      auto host = TreeReducer::Create(communicator, needs.shards, needs.elements, needs.scalars);
      if (!host.ok()) return host.status();
      return std::make_unique<FarReducer>(std::move(*host), device, needs.elements, needs.scalars, &told);
    };
  };
  return options;
}

TEST_F(FarTrainerTest, AReducerOnTheDeviceGivesTheSameBits) {
  std::atomic<int> made = 0, fastest = 0, told = 0;
  TrainOptions options = OnTheDevice(made, fastest, told);
  const Outcome near = Train(1, "near");
  // One rank needs nobody to sum with.
  for (const int ranks : {1, 2, 3, 4}) {
    made = 0;
    const Outcome far = TrainFar(ranks, "far", options);
    ASSERT_TRUE(far.status.ok()) << far.status;
    EXPECT_EQ(made, ranks == 1 ? 0 : ranks);
    // Of each layer of a shard at least.
    EXPECT_EQ(told.exchange(0) >= 4, ranks > 1);
    EXPECT_EQ(far.model_sha256, near.model_sha256) << ranks << " ranks";
    EXPECT_GT(far.result.recorded_steps, 80);
  }
  EXPECT_EQ(fastest, 0);
  options.spec.mutable_training()->set_reduction(v1::REDUCTION_FASTEST);
  EXPECT_TRUE(TrainFar(2, "fastest", options).status.ok());
  EXPECT_EQ(fastest, 2);
}

TEST_F(FarTrainerTest, AReducerThatCannotBeMadeEndsTheRank) {
  TrainOptions options;
  options.device_reducer = [](Device*, Communicator*) -> DeviceReducerFactory {
    return [](const ReducerNeeds&) -> absl::StatusOr<std::unique_ptr<Reducer>> {
      return absl::ResourceExhaustedError("not enough GPU memory for the reduction");
    };
  };
  EXPECT_THAT(std::string(TrainFar(2, "far", options).status.message()), HasSubstr("GPU memory for the reduction"));
}

TEST_F(FarTrainerTest, RanksThatRunByThemselvesStopAtOneStep) {
  std::atomic<int> made = 0, fastest = 0, told = 0;
  TrainOptions options = OnTheDevice(made, fastest, told);
  options.stop_at = 41;
  for (const int ranks : {2, 3}) {
    const Outcome parts = TrainFar(ranks, "parts" + std::to_string(ranks), options);
    ASSERT_TRUE(parts.status.ok()) << parts.status;
    // At the end of the run that was under way, which ends with the digest of step 50 at the latest.
    EXPECT_GT(parts.result.step, 41);
    EXPECT_LE(parts.result.step, 50);
    const std::filesystem::path folder = folder_ / ("far-parts" + std::to_string(ranks));
    const std::string checkpoint = folder / "checkpoints" / ("step-" + std::to_string(parts.result.step));
    const Outcome rest = Train(1, "rest", {.resume_checkpoint = checkpoint, .first_step = parts.result.step});
    EXPECT_EQ(rest.model_sha256, Train(1, "whole").model_sha256);
  }
}

TEST_F(FarTrainerTest, RanksThatRunByThemselvesHaltAtOneStep) {
  for (const v1::NonFinitePolicy policy : {v1::NON_FINITE_POLICY_SKIP_STEP, v1::NON_FINITE_POLICY_ROLL_BACK}) {
    std::atomic<int> made = 0, fastest = 0, told = 0;
    TrainOptions options = OnTheDevice(made, fastest, told);
    options.poisoned = true;
    options.spec.mutable_training()->set_non_finite(policy);
    const Outcome near = Train(2, "near", {.poisoned = true, .spec = options.spec});
    const Outcome far = TrainFar(2, "far", options);
    EXPECT_TRUE(far.status.ok()) << far.status;
    EXPECT_EQ(far.model_sha256, near.model_sha256) << policy;
    EXPECT_GT(far.result.recorded_steps, 40);
  }
}

TEST_F(FarTrainerTest, SamplesThatDoNotFitStayOnTheHost) {
  const Outcome near = Train(1, "near");
  TrainOptions options;
  Outcome far;
  // The least memory that will do.
  for (options.device_bytes = 10'000; !far.status.ok() || far.model_sha256.empty(); options.device_bytes += 2'000) {
    ASSERT_LT(options.device_bytes, 1'000'000) << far.status;
    far = TrainFar(1, "far", options);
  }
  EXPECT_EQ(far.model_sha256, near.model_sha256);
  EXPECT_EQ(far.result.recorded_steps, 0);
  options.device_bytes += 100'000;
  far = TrainFar(1, "far", options);
  EXPECT_EQ(far.model_sha256, near.model_sha256);
  EXPECT_GT(far.result.recorded_steps, 80);
}

// Where the samples do not fit into one rank's memory, all ranks go through the host: they would end runs elsewhere.
TEST_F(FarTrainerTest, AllRanksRunByThemselvesOrNone) {
  std::atomic<int> made = 0, fastest = 0, told = 0, devices = 0;
  TrainOptions options = OnTheDevice(made, fastest, told);
  options.run_seconds = 60;
  options.stop_at = 41;
  Outcome run;
  // The least memory of one of the ranks that will do.
  for (int64_t bytes = 10'000; !run.status.ok() || run.result.step == 0; bytes += 2'000) {
    ASSERT_LT(bytes, 1'000'000) << run.status;
    options.device = [&, bytes]() -> std::unique_ptr<Device> {
      const bool small = devices++ % 2 == 0;
      auto far = std::make_unique<FarDevice>();
      if (!small) return far;
      return std::make_unique<LimitedDevice>(std::move(far), bytes);
    };
    run = Train(2, "run", options);
  }
  EXPECT_EQ(run.result.step, 42);
  EXPECT_EQ(run.result.recorded_steps, 0);
}

TEST_F(FarTrainerTest, OneShardIsNotAddedToAnything) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_logical_shards(1);
  ExpectAlike(spec, 1);
}

TEST_F(FarTrainerTest, EveryKindOfUpdateReadsTheDevicesMemoryAlone) {
  for (const char* optimizer : {R"({"sgd": {"learning_rate": 0.05, "momentum": 0.9}, "globalClipNorm": 0.5})",
                                R"({"adam": {"learning_rate": 0.01}, "clipNorm": 0.2, "useEma": true})",
                                R"({"adamw": {"learning_rate": 0.01}, "gradientAccumulationSteps": 3})",
                                R"({"lamb": {"learning_rate": 0.01}})", R"({"lars": {"learning_rate": 0.1}})"}) {
    SCOPED_TRACE(optimizer);
    ExpectAlike(WithOptimizer(optimizer), 2);
  }
}

TEST_F(FarTrainerTest, LayersOverTheWholeBatchMeetOnTheHost) {
  for (const bool synchronized : {false, true}) {
    v1::JobSpec spec = BlobSpec();
    v1::LayerSpec norm;
    norm.mutable_batch_normalization()->set_synchronized(synchronized);
    spec.mutable_model()->mutable_layers(1)->Swap(&norm);
    for (const int ranks : {1, 2}) ExpectAlike(spec, ranks);
  }
}

TEST_F(FarTrainerTest, MetricsWeightsOfClassesAndTheBestEpochAreAlike) {
  v1::JobSpec spec = BlobSpec();
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"loss": {"sparse_categorical_crossentropy": {"from_logits": true, "class_weights": [1, 2]}},
          "metrics": [{"accuracy": {}}, {"f1_score": {}}, {"auc": {}}, {"confusion_matrix": {}}, {"gradient_norm": {}}],
          "training": {"early_stopping": {"monitor": {"metric": "test_loss"}, "patience": 1, "restore_best": true}}})",
      &part_);
  ASSERT_TRUE(status.ok()) << status.ToString();
  *spec.mutable_loss() = part_.loss();
  *spec.mutable_metrics() = part_.metrics();
  *spec.mutable_training()->mutable_early_stopping() = part_.training().early_stopping();
  for (const int ranks : {1, 2}) ExpectAlike(spec, ranks);
}

TEST_F(FarTrainerTest, TheFastestSumGoesThroughTheHostToo) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_training()->set_reduction(v1::REDUCTION_FASTEST);
  for (const int ranks : {1, 2}) {
    const Outcome near = Train(ranks, "near", {.spec = spec}), far = TrainFar(ranks, "far", {.spec = spec});
    ASSERT_TRUE(far.status.ok()) << far.status;
    EXPECT_NEAR(Epochs(far).back().train_loss(), Epochs(near).back().train_loss(), 1e-3);
  }
}

TEST_F(FarTrainerTest, TargetsMayBeNumbers) {
  v1::JobSpec spec = BlobSpec();
  spec.mutable_loss()->mutable_categorical_crossentropy()->set_from_logits(true);
  EXPECT_EQ(TrainFar(2, "far", {.numbers = true, .spec = spec}).model_sha256,
            Train(2, "near", {.numbers = true, .spec = spec}).model_sha256);
}

TEST_F(FarTrainerTest, GoesOnFromACheckpointAndFromASnapshot) {
  const Outcome whole = Train(2, "whole");
  TrainFar(2, "parts", {.stop_at = 41});
  const std::string checkpoint = folder_ / "far-parts" / "checkpoints" / "step-42";
  const Outcome second = TrainFar(3, "second", {.resume_checkpoint = checkpoint, .first_step = 42});
  EXPECT_EQ(second.model_sha256, whole.model_sha256);

  const std::string snapshot = folder_ / "snapshot";
  TrainFar(1, "snapshots", {.stop_at = 41, .snapshot_path = snapshot});
  const Outcome third = TrainFar(2, "third", {.resume_snapshot = snapshot, .first_step = 42});
  EXPECT_EQ(third.model_sha256, whole.model_sha256);
}

TEST_F(FarTrainerTest, FindsWhereNumbersStoppedBeingFinite) {
  const Outcome near = Train(2, "near", {.poisoned = true}), far = TrainFar(2, "far", {.poisoned = true});
  EXPECT_FALSE(near.status.ok());
  EXPECT_EQ(far.status, near.status);
  // Whether the others fail too, or are told to stop first, is a matter of time.
  ASSERT_FALSE(far.failures.empty());
  EXPECT_EQ(far.failures.front(), near.failures.front());
  EXPECT_EQ(TrainFar(1, "alone", {.poisoned = true}).status.code(), near.status.code());
}

TEST_F(FarTrainerTest, RollsBackAndSkips) {
  for (const v1::NonFinitePolicy policy : {v1::NON_FINITE_POLICY_SKIP_STEP, v1::NON_FINITE_POLICY_ROLL_BACK}) {
    v1::JobSpec spec = BlobSpec();
    spec.mutable_training()->set_non_finite(policy);
    for (const int ranks : {1, 2}) {
      const Outcome near = Train(ranks, "near", {.poisoned = true, .spec = spec});
      const Outcome far = TrainFar(ranks, "far", {.poisoned = true, .spec = spec});
      EXPECT_TRUE(far.status.ok()) << far.status;
      EXPECT_EQ(far.model_sha256, near.model_sha256) << ranks << " ranks, policy " << policy;
      EXPECT_EQ(Warnings(far).size(), Warnings(near).size());
    }
  }
}

TEST_F(FarTrainerTest, DamagedMemoryShowsInTheDigest) {
  std::ofstream(folder_ / "failpoints") << "memory.flip error rank=1 hit=15\n";
  const Outcome run = TrainFar(2, "flipped", {.failpoints = folder_ / "failpoints"});
  std::map<int64_t, std::vector<std::string>> digests;
  for (size_t rank = 0; rank < 2; ++rank) {
    for (const v1::SessionRequest& report : run.reports_of_rank[rank]) {
      const auto& some = rank == 0 ? report.commit_steps().digests() : report.digest_report().digests();
      for (const v1::StepDigest& digest : some) digests[digest.step()].push_back(digest.digest());
    }
  }
  ASSERT_EQ(digests[10].size(), 2u);
  EXPECT_EQ(digests[10][1], digests[10][0]);
  ASSERT_EQ(digests[20].size(), 2u);
  EXPECT_NE(digests[20][1], digests[20][0]);
}

TEST_F(FarTrainerTest, ABrokenGpuEndsTheRankWithItsWords) {
  const Outcome run = Train(1, "broken", {.device = [] {
                              auto device = std::make_unique<FarDevice>();
                              device->Break();
                              return device;
                            }});
  EXPECT_FALSE(run.status.ok());
  EXPECT_THAT(run.status.message(), HasSubstr("fell off the bus"));
}

}  // namespace
}  // namespace lockstep
