// SPDX-License-Identifier: Apache-2.0
// What the machine is, for Device::Description.
#pragma once

#include <string>

namespace lockstep::cpu {

// The first "model name" of /proc/cpuinfo, or "unknown".
std::string ModelName();
// "oneDNN 2.6.3".
std::string LibraryVersion();

}  // namespace lockstep::cpu
