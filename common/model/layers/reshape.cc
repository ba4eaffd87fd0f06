// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"

namespace lockstep {

void DescribeReshape(LayerPlan& plan, Violations& violations) {
  const auto& target = plan.spec.reshape().target_shape();
  const std::string field = plan.field + ".reshape.target_shape";
  const int64_t elements = plan.input.elements();
  if (target.empty() || target.size() > Shape::kMaxRank - 1) {
    violations.Add(field, absl::StrCat("has ", target.size(), " axes; give 1 to ", Shape::kMaxRank - 1));
    return;
  }
  std::vector<int64_t> dims(target.begin(), target.end());
  int64_t known = 1;
  int open = -1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == -1 && open < 0) {
      open = static_cast<int>(i);
    } else if (dims[i] < 1 || known > elements / dims[i]) {
      known = 0;
      break;
    } else {
      known *= dims[i];
    }
  }
  if (open >= 0 && known > 0 && elements % known == 0) {
    dims[static_cast<size_t>(open)] = elements / known;
    known = elements;
  }
  if (known != elements || elements == 0) {
    violations.Add(field, absl::StrCat("does not hold the ", elements, " numbers of the input's shape ",
                                       plan.input.ToString(), "; each axis is at least 1, and one may be -1"));
    return;
  }
  plan.output = Shape(dims);
}

}  // namespace lockstep
