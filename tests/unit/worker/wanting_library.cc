// SPDX-License-Identifier: Apache-2.0
extern "C" int LockstepTestWanted();
extern "C" int LockstepTestWanting() { return LockstepTestWanted(); }
