// SPDX-License-Identifier: Apache-2.0
// The parts of ProbeDataset: one for each kind of source. Each adds what is wrong with its path in the spec;
// the answer is complete where nothing was added. `held_out`: the test part comes out of the training
// samples, so the source's own is not looked at.
#pragma once

#include <string>
#include <vector>

#include "common/model/job_plan.h"

namespace lockstep {

// Labels are read whole, for the largest; of longer files the loader finds it when the job starts.
inline constexpr int64_t kMaxProbedLabels = 16 << 20;

DatasetInfo ProbeIdx(const lockstep::v1::IdxDataset& spec, const std::vector<std::string>& roots, bool held_out,
                     Violations& violations);
DatasetInfo ProbeCsv(const lockstep::v1::CsvDataset& spec, const std::vector<std::string>& roots, uint64_t seed,
                     Violations& violations);
DatasetInfo ProbeCifar(const lockstep::v1::CifarDataset& spec, const std::vector<std::string>& roots, bool held_out,
                       Violations& violations);
DatasetInfo ProbeNumpy(const lockstep::v1::NumpyDataset& spec, const std::vector<std::string>& roots, bool held_out,
                       Violations& violations);

}  // namespace lockstep
