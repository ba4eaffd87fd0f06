// SPDX-License-Identifier: Apache-2.0
#include "cli/audit.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lockstep::cli {

namespace {

constexpr size_t kMaxName = 63;

std::string Range(int64_t first, int64_t end) {
  return end == first + 1 ? absl::StrCat("step ", first) : absl::StrCat("steps ", first, " to ", end - 1);
}

// The last step of each epoch takes what is left.
int64_t SamplesOf(const v1::ListLedgerResponse& ledger, int64_t first, int64_t end) {
  const int64_t per_epoch = ledger.steps_per_epoch();
  const int64_t ends = end / per_epoch - first / per_epoch;
  return (end - first) * ledger.batch_size() - ends * (per_epoch * ledger.batch_size() - ledger.train_samples());
}

// The entries that count, in order of their steps; what no entry may be is a problem.
std::vector<v1::LedgerEntry> Counting(const v1::ListLedgerResponse& ledger, LedgerAudit& audit) {
  std::vector<v1::LedgerEntry> counting;
  std::set<int64_t> generations;
  for (const v1::LedgerEntry& entry : ledger.entries()) {
    if (entry.end_step() <= entry.first_step() || entry.first_step() < ledger.first_step() ||
        entry.end_step() > ledger.total_steps()) {
      audit.problems.push_back(absl::StrCat("an entry of generation ", entry.generation(), " for [", entry.first_step(),
                                            ", ", entry.end_step(), ") is not a range of the job's steps"));
      continue;
    }
    generations.insert(entry.generation());
    if (entry.voided()) {
      ++audit.voided_entries;
      audit.voided_steps += entry.end_step() - entry.first_step();
    } else {
      counting.push_back(entry);
    }
  }
  audit.generations = static_cast<int64_t>(generations.size());
  std::stable_sort(counting.begin(), counting.end(),
                   [](const v1::LedgerEntry& a, const v1::LedgerEntry& b) { return a.first_step() < b.first_step(); });
  return counting;
}

}  // namespace

LedgerAudit AuditLedger(const v1::ListLedgerResponse& ledger, bool complete) {
  LedgerAudit audit{.first_step = ledger.first_step(), .total_steps = ledger.total_steps()};
  int64_t end = ledger.first_step();
  // Whose entry reaches to `end`.
  int64_t generation = 0;
  // How far nothing is wrong.
  std::optional<int64_t> proven;
  const auto wrong = [&](int64_t from, std::string what) {
    if (!proven.has_value()) proven = from;
    audit.problems.push_back(std::move(what));
  };
  for (const v1::LedgerEntry& entry : Counting(ledger, audit)) {
    const std::string range = Range(entry.first_step(), entry.end_step());
    if (entry.first_step() > end) {
      wrong(end,
            absl::StrCat(Range(end, entry.first_step()), " missing: a gap before generation ", entry.generation()));
    }
    if (entry.first_step() < end) {
      wrong(entry.first_step(),
            absl::StrCat(Range(entry.first_step(), std::min(end, entry.end_step())), " counted twice: by generations ",
                         generation, " and ", entry.generation()));
    } else if (entry.generation() < generation) {
      wrong(entry.first_step(), absl::StrCat(range, " counted by generation ", entry.generation(), " after generation ",
                                             generation, " had begun"));
    }
    if (entry.end_step() <= end) continue;
    end = entry.end_step();
    generation = std::max(generation, entry.generation());
  }
  if (complete && end < ledger.total_steps()) {
    wrong(end, absl::StrCat(Range(end, ledger.total_steps()), " missing at the end"));
  }
  end = proven.value_or(end);
  audit.end_step = end;
  const int64_t per_epoch = ledger.steps_per_epoch();
  if (per_epoch < 1) return audit;
  audit.total_epochs = (ledger.total_steps() + per_epoch - 1) / per_epoch;
  audit.epochs = std::max<int64_t>(0, end / per_epoch - (audit.first_step + per_epoch - 1) / per_epoch);
  if (ledger.train_samples() > 0) audit.samples = SamplesOf(ledger, audit.first_step, end);
  return audit;
}

DigestComparison CompareDigests(const DigestSource& a, const DigestSource& b, int64_t first, int64_t last) {
  DigestComparison result;
  v1::RecordedDigest left, right;
  bool more = a(&left) && b(&right);
  while (more && left.step() <= last && right.step() <= last) {
    if (left.step() < right.step() || left.step() < first) {
      more = a(&left);
    } else if (right.step() < left.step()) {
      more = b(&right);
    } else {
      if (left.digest() != right.digest()) {
        result.difference = {left.step(), std::nullopt, left.digest(), right.digest()};
        if (result.common > 0) result.difference->last_equal = result.last_common;
        return result;
      }
      if (result.common++ == 0) result.first_common = left.step();
      result.last_common = left.step();
      more = a(&left) && b(&right);
    }
  }
  return result;
}

bool ParseStepRange(const std::string& text, int64_t* first, int64_t* last) {
  const size_t dots = text.find("..");
  return dots != std::string::npos && absl::SimpleAtoi(text.substr(0, dots), first) &&
         absl::SimpleAtoi(text.substr(dots + 2), last) && *first >= 0 && *last > *first;
}

std::string VerifyName(const std::string& name) {
  std::string text = absl::StrCat("verify-", name).substr(0, kMaxName);
  while (text.back() == '-') text.pop_back();
  return text;
}

}  // namespace lockstep::cli
