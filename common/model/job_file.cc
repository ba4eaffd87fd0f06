// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/job_plan.h"
#include "common/model/spec_reader.h"
#include "common/model/yaml_tree.h"

namespace lockstep {

v1::JobSpec ParseJobFile(const std::string& text, const std::string& name, Violations& violations) {
  v1::JobSpec spec;
  YamlNode root;
  if (!ParseYaml(text, name, root, violations)) return spec;
  if (root.kind == YamlNode::Kind::kNull) {
    violations.Add("", absl::StrCat(name, ": is empty; a job file names a dataset, a model, a loss, ..."));
    return spec;
  }
  ReadMessage(root, name, spec, violations);
  return spec;
}

}  // namespace lockstep
