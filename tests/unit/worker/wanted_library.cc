// SPDX-License-Identifier: Apache-2.0
extern "C" int LockstepTestWanted() { return 7; }
