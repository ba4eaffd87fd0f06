// SPDX-License-Identifier: Apache-2.0
// Fills a protobuf message from a YAML tree by the protobuf JSON mapping, with places in the messages.
#pragma once

#include <string>

#include "common/model/violations.h"
#include "common/model/yaml_tree.h"
#include "google/protobuf/message.h"

namespace lockstep {

// Every unknown, repeated or mistyped field below `node` is added with its path and
// "name:line:column"; the others are set.
void ReadMessage(const YamlNode& node, const std::string& name, google::protobuf::Message& message,
                 Violations& violations);

}  // namespace lockstep
