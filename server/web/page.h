// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace lockstep::web {

// The live page, made from page.html.
extern const char kPage[];

}  // namespace lockstep::web
