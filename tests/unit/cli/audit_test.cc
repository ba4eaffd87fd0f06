// SPDX-License-Identifier: Apache-2.0
#include "cli/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Entry {
  int64_t generation, first, end;
  bool voided = false;
};

// 3 epochs of 10 steps of 8 samples; the last step of an epoch has 5.
v1::ListLedgerResponse Ledger(const std::vector<Entry>& entries) {
  v1::ListLedgerResponse ledger;
  ledger.set_total_steps(30);
  ledger.set_steps_per_epoch(10);
  ledger.set_batch_size(8);
  ledger.set_train_samples(77);
  for (const Entry& e : entries) {
    v1::LedgerEntry& entry = *ledger.add_entries();
    entry.set_generation(e.generation);
    entry.set_first_step(e.first);
    entry.set_end_step(e.end);
    entry.set_voided(e.voided);
  }
  return ledger;
}

TEST(AuditLedgerTest, AWholeJobWithARestart) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 12}, {1, 12, 17, true}, {2, 12, 30}}), true);
  EXPECT_THAT(audit.problems, IsEmpty());
  EXPECT_EQ(audit.end_step, 30);
  EXPECT_EQ(audit.epochs, 3);
  EXPECT_EQ(audit.total_epochs, 3);
  EXPECT_EQ(audit.samples, 3 * 77);
  EXPECT_EQ(audit.voided_entries, 1);
  EXPECT_EQ(audit.voided_steps, 5);
  EXPECT_EQ(audit.generations, 2);
}

TEST(AuditLedgerTest, AJobThatStillRunsIsRightSoFar) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 10}, {1, 10, 13}}), false);
  EXPECT_THAT(audit.problems, IsEmpty());
  EXPECT_EQ(audit.end_step, 13);
  EXPECT_EQ(audit.epochs, 1);
  EXPECT_EQ(audit.samples, 77 + 3 * 8);
  EXPECT_THAT(AuditLedger(Ledger({}), false).problems, IsEmpty());
}

TEST(AuditLedgerTest, ASucceededJobHasAllSteps) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 29}}), true);
  EXPECT_THAT(audit.problems, ElementsAre("step 29 missing at the end"));
  EXPECT_EQ(audit.epochs, 2);
}

TEST(AuditLedgerTest, NamesEveryGapAndDouble) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 10}, {1, 12, 15}, {2, 13, 20}, {2, 21, 30}, {3, 29, 30}}), true);
  EXPECT_THAT(audit.problems, ElementsAre("steps 10 to 11 missing: a gap before generation 1",
                                          "steps 13 to 14 counted twice: by generations 1 and 2",
                                          "step 20 missing: a gap before generation 2",
                                          "step 29 counted twice: by generations 2 and 3"));
  EXPECT_EQ(audit.end_step, 10) << "what is proven ends where the first fault is";
  EXPECT_EQ(audit.samples, 77);
}

TEST(AuditLedgerTest, AStepWhollyInsideAnotherEntryIsADouble) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 30}, {2, 4, 6}}), true);
  EXPECT_THAT(audit.problems, ElementsAre("steps 4 to 5 counted twice: by generations 1 and 2"));
}

TEST(AuditLedgerTest, AnOlderGenerationMustNotCommitAfterANewerOne) {
  const LedgerAudit audit = AuditLedger(Ledger({{2, 0, 10}, {1, 10, 30}}), true);
  EXPECT_THAT(audit.problems, ElementsAre(HasSubstr("counted by generation 1 after generation 2 had begun")));
}

TEST(AuditLedgerTest, EntriesThatAreNoRangeAreFaults) {
  const LedgerAudit audit = AuditLedger(Ledger({{1, 0, 30}, {1, 7, 7}, {1, 30, 31}, {2, -1, 2}}), true);
  EXPECT_EQ(audit.problems.size(), 3u);
}

TEST(AuditLedgerTest, AReplayBeginsWhereItBegins) {
  v1::ListLedgerResponse ledger = Ledger({{1, 14, 25}});
  ledger.set_first_step(14);
  ledger.set_total_steps(25);
  const LedgerAudit audit = AuditLedger(ledger, true);
  EXPECT_THAT(audit.problems, IsEmpty());
  EXPECT_EQ(audit.epochs, 0) << "no whole pass";
  EXPECT_EQ(audit.samples, 11 * 8 - 3);
  ledger.set_first_step(13);
  EXPECT_THAT(AuditLedger(ledger, true).problems, ElementsAre("step 13 missing: a gap before generation 1"));
}

TEST(AuditLedgerTest, UnknownSamplesAreNotGuessed) {
  v1::ListLedgerResponse ledger = Ledger({{1, 0, 30}});
  ledger.set_train_samples(0);
  EXPECT_FALSE(AuditLedger(ledger, true).samples.has_value());
}

// Counts each step by itself.
bool RightByHand(const v1::ListLedgerResponse& ledger) {
  std::vector<int> count(30);
  for (const v1::LedgerEntry& entry : ledger.entries()) {
    for (int64_t step = entry.first_step(); !entry.voided() && step < entry.end_step(); ++step) ++count[step];
  }
  return std::ranges::all_of(count, [](int times) { return times == 1; });
}

TEST(AuditLedgerTest, AgreesWithCountingByHand) {
  std::mt19937 random(1);
  int right = 0;
  for (int i = 0; i < 20'000; ++i) {
    // Mostly right: cut 30 steps into pieces, then sometimes move an end.
    std::vector<Entry> entries;
    for (int64_t step = 0; step < 30;) {
      const int64_t end = std::min<int64_t>(30, step + 1 + random() % 9);
      entries.push_back({1, step, end});
      if (random() % 4 == 0) entries.push_back({1, step, end, true});
      step = end;
    }
    Entry& victim = entries[random() % entries.size()];
    if (random() % 3 == 0) victim.end = std::min<int64_t>(30, victim.end + 1);
    if (random() % 3 == 0 && victim.end - victim.first > 1) ++victim.first;
    if (random() % 5 == 0) victim.voided = !victim.voided;
    std::ranges::shuffle(entries, random);
    const v1::ListLedgerResponse ledger = Ledger(entries);
    const bool expected = RightByHand(ledger);
    right += expected ? 1 : 0;
    ASSERT_EQ(AuditLedger(ledger, true).problems.empty(), expected) << ledger.ShortDebugString();
  }
  EXPECT_GT(right, 1000);
  EXPECT_LT(right, 19'000);
}

DigestSource From(const std::vector<std::pair<int64_t, std::string>>& digests) {
  return [digests, at = size_t{0}](v1::RecordedDigest* digest) mutable {
    if (at == digests.size()) return false;
    digest->set_step(digests[at].first);
    digest->set_digest(digests[at++].second);
    return true;
  };
}

TEST(CompareDigestsTest, EqualWhereBothHaveOne) {
  const auto found = CompareDigests(From({{5, "a"}, {10, "b"}, {12, "x"}, {20, "c"}}),
                                    From({{7, "y"}, {10, "b"}, {20, "c"}, {30, "d"}}), 0, INT64_MAX);
  EXPECT_FALSE(found.difference.has_value());
  EXPECT_EQ(found.common, 2);
  EXPECT_EQ(found.first_common, 10);
  EXPECT_EQ(found.last_common, 20);
}

TEST(CompareDigestsTest, TheFirstStepAtWhichTheyPart) {
  const auto found =
      CompareDigests(From({{5, "a"}, {10, "b"}, {20, "c"}}), From({{5, "a"}, {10, "X"}, {20, "Y"}}), 0, INT64_MAX);
  ASSERT_TRUE(found.difference.has_value());
  EXPECT_EQ(found.difference->step, 10);
  EXPECT_EQ(found.difference->last_equal, 5);
  EXPECT_EQ(found.difference->a, "b");
  EXPECT_EQ(found.difference->b, "X");
}

TEST(CompareDigestsTest, OnlyStepsInTheRangeCount) {
  const auto a = std::vector<std::pair<int64_t, std::string>>{{5, "a"}, {10, "b"}, {20, "c"}};
  const auto b = std::vector<std::pair<int64_t, std::string>>{{5, "X"}, {10, "b"}, {20, "Y"}};
  const auto found = CompareDigests(From(a), From(b), 6, 19);
  EXPECT_FALSE(found.difference.has_value());
  EXPECT_EQ(found.common, 1);
  EXPECT_EQ(CompareDigests(From(a), From(b), 6, 9).common, 0);
  EXPECT_EQ(CompareDigests(From(a), From({}), 0, 99).common, 0);
}

TEST(StepRangeTest, TwoStepsInOrder) {
  int64_t first = 0, last = 0;
  EXPECT_TRUE(ParseStepRange("100..200", &first, &last));
  EXPECT_EQ(first, 100);
  EXPECT_EQ(last, 200);
  for (const char* bad : {"", "100", "100..", "..5", "5..5", "6..5", "-1..5", "a..b", "1...5"}) {
    EXPECT_FALSE(ParseStepRange(bad, &first, &last)) << bad;
  }
}

TEST(VerifyNameTest, IsAJobName) {
  EXPECT_EQ(VerifyName("mnist"), "verify-mnist");
  EXPECT_EQ(VerifyName(std::string(55, 'a') + "-bcdefgh"), "verify-" + std::string(55, 'a'));
  EXPECT_EQ(VerifyName(std::string(63, 'a')).size(), 63u);
}

}  // namespace
}  // namespace lockstep::cli
