// SPDX-License-Identifier: Apache-2.0
// Help with names that people wrote.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "google/protobuf/descriptor.h"

namespace lockstep {

// "; did you mean \"relu\"?" where one of `known` is close to `name`, else "". ASCII case is ignored.
std::string DidYouMean(std::string_view name, std::span<const std::string> known);

// "sgd, adam, ...": the fields of the message's oneof "kind".
std::string KindsOf(const google::protobuf::Descriptor& message);

// True where `text` is well-formed UTF-8, as protobuf wants its strings.
bool IsUtf8(std::string_view text);

}  // namespace lockstep
