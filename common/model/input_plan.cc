// SPDX-License-Identifier: Apache-2.0
#include "common/model/input_plan.h"

#include <algorithm>
#include <limits>

namespace lockstep {

namespace {

// Each part: what is read at once, the indices of a batch, and what is said of each file.
constexpr int64_t kPartBytes = 1 << 20;
constexpr int64_t kLine = 64;
constexpr int64_t kTooMuch = std::numeric_limits<int64_t>::max();

// Sizes of a spec that was not checked may be anything.
int64_t Times(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kTooMuch : product;
}
int64_t Plus(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? kTooMuch : sum;
}

class Planner {
 public:
  Planner(const v1::JobSpec& spec, const DatasetInfo& dataset, int32_t logical_shards)
      : spec_(spec), dataset_(dataset), logical_shards_(std::max(1, logical_shards)) {}

  InputPlan Wished(int64_t owned_shards) const {
    const int32_t asked = spec_.dataset().prefetch_batches();
    InputPlan plan;
    plan.train_slots = Times(asked > 0 ? asked : kDefaultPrefetchBatches, std::max<int64_t>(1, owned_shards)) + 1;
    plan.test_slots = 3;
    return Counted(plan);
  }

  InputPlan Fitted(InputPlan plan) const {
    const int64_t limit = spec_.dataset().memory_limit_bytes();
    if (limit <= 0 || plan.bytes <= limit) return plan;
    plan.test_slots = 2;
    const int64_t others = Counted({.train_slots = 0, .test_slots = plan.test_slots}).bytes;
    plan.train_slots = std::clamp<int64_t>((limit - others) / TrainSlot(), 2, plan.train_slots);
    return Counted(plan);
  }

 private:
  int64_t Slot(int64_t rows) const { return BytesOfSlot(rows, dataset_.sample.elements(), dataset_.target_width).all; }
  int64_t TrainSlot() const {
    const int64_t batch = std::max<int64_t>(1, std::min(spec_.training().batch_size(), dataset_.train_samples));
    return Slot((batch - 1) / logical_shards_ + 1);
  }

  InputPlan Counted(InputPlan plan) const {
    int64_t held = Times(plan.train_slots, TrainSlot());
    int64_t parts = 1;
    if (dataset_.test_samples > 0) {
      held = Plus(held, Times(plan.test_slots, Slot(std::min(kEvaluationRows, dataset_.test_samples))));
      parts = 2;
    }
    // A record as it lies in the file, at most eight bytes a value, and a sample that is being changed.
    held = Plus(held, parts * (kPartBytes + 12 * dataset_.sample.elements()));
    const int64_t samples = Plus(dataset_.train_samples, dataset_.test_samples);
    // CIFAR's labels stay in the records.
    if (!spec_.dataset().has_cifar()) held = Plus(held, Times(samples, 4 * dataset_.target_width));
    // Which samples are held out.
    if (spec_.dataset().validation_fraction() > 0) held = Plus(held, Times(samples, 8));
    plan.bytes = held;
    return plan;
  }

  const v1::JobSpec& spec_;
  const DatasetInfo& dataset_;
  int64_t logical_shards_;
};

}  // namespace

SlotBytes BytesOfSlot(int64_t rows, int64_t sample_elements, int64_t target_width) {
  const auto lines = [](int64_t bytes) {
    return bytes > kTooMuch - kLine ? bytes : (bytes + kLine - 1) / kLine * kLine;
  };
  SlotBytes bytes;
  bytes.targets_at = lines(Times(rows, Times(sample_elements, 4)));
  bytes.all = Plus(bytes.targets_at, lines(Times(rows, Times(target_width, 4))));
  return bytes;
}

InputPlan PlanInput(const v1::JobSpec& spec, const DatasetInfo& dataset, int32_t logical_shards, int64_t owned_shards) {
  return Planner(spec, dataset, logical_shards).Wished(owned_shards);
}

InputPlan FitInput(const v1::JobSpec& spec, const DatasetInfo& dataset, int32_t logical_shards, int64_t owned_shards) {
  const Planner planner(spec, dataset, logical_shards);
  return planner.Fitted(planner.Wished(owned_shards));
}

}  // namespace lockstep
