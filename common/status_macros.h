// SPDX-License-Identifier: Apache-2.0
// Early return of an absl::Status.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define LOCKSTEP_CONCAT_INNER(a, b) a##b
#define LOCKSTEP_CONCAT(a, b) LOCKSTEP_CONCAT_INNER(a, b)

// Returns the status of `expression` from the enclosing function unless it is OK.
#define LOCKSTEP_RETURN_IF_ERROR(expression)                                  \
  do {                                                                        \
    if (absl::Status lockstep_status = (expression); !lockstep_status.ok()) { \
      return lockstep_status;                                                 \
    }                                                                         \
  } while (false)

// LOCKSTEP_ASSIGN_OR_RETURN(auto x, MakeX()): the value, or an early return of the status.
#define LOCKSTEP_ASSIGN_OR_RETURN(declaration, expression) \
  LOCKSTEP_ASSIGN_OR_RETURN_INNER(LOCKSTEP_CONCAT(lockstep_or_, __LINE__), declaration, expression)
#define LOCKSTEP_ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                            \
  if (!temporary.ok()) return temporary.status();                           \
  declaration = std::move(temporary).value()
