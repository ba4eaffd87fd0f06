// SPDX-License-Identifier: Apache-2.0
// What a job's records prove: pure arithmetic over the ledger and the digests.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lockstep/v1/training_service.pb.h"

namespace lockstep::cli {

// A pass over the training data visits each sample once, and the steps of a pass share it out; so each
// sample counts exactly once in an epoch where each of the epoch's steps does.
struct LedgerAudit {
  // Each of the steps [first_step, end_step) counts exactly once; the first problem, if any, is at end_step.
  int64_t first_step = 0;
  int64_t end_step = 0;
  int64_t total_steps = 0;
  // Passes that are whole in [first_step, end_step).
  int64_t epochs = 0;
  int64_t total_epochs = 0;
  // Samples of these steps; nullopt: not known.
  std::optional<int64_t> samples;
  // Ledger entries that no longer count, and their steps.
  int64_t voided_entries = 0;
  int64_t voided_steps = 0;
  // That have done a step.
  int64_t generations = 0;
  // One for each gap and each double.
  std::vector<std::string> problems;
};
// `complete`: the job says that all steps are done, so none may be missing at the end.
LedgerAudit AuditLedger(const lockstep::v1::ListLedgerResponse& ledger, bool complete);

// The next digest in order of the steps; false at the end.
using DigestSource = std::function<bool(lockstep::v1::RecordedDigest*)>;

struct DigestComparison {
  // Steps at which both have a digest, up to the first difference.
  int64_t common = 0;
  int64_t first_common = 0;
  int64_t last_common = 0;
  // Where they part first.
  struct Difference {
    int64_t step = 0;
    // Equal there and before; nullopt: nowhere.
    std::optional<int64_t> last_equal;
    std::string a, b;
  };
  std::optional<Difference> difference;
};
// Of the steps in [first, last].
DigestComparison CompareDigests(const DigestSource& a, const DigestSource& b, int64_t first, int64_t last);

// "100..200" as two numbers, 0 <= a < b; false where it is something else.
bool ParseStepRange(const std::string& text, int64_t* first, int64_t* last);

// "verify-" and a job's name, cut to what a name may be.
std::string VerifyName(const std::string& name);

}  // namespace lockstep::cli
