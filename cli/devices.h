// SPDX-License-Identifier: Apache-2.0
// `lockstep devices` as text; commands.h has the command.
#pragma once

#include <string>

#include "worker/measure/host_devices.h"

namespace lockstep::cli {

std::string DevicesTable(const HostDevices& devices);
std::string DevicesJson(const HostDevices& devices);

}  // namespace lockstep::cli
