#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the examples that take longer than a test may, and says what they reach.

Usage: LOCKSTEP_BIN_DIR=build/cpu-release/bin LOCKSTEP_DATA_DIR=~/data bench/examples.py [NAME ...]
"""

import os
import pathlib
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault("LOCKSTEP_SOURCE_DIR", str(SOURCE))
os.environ.setdefault("LOCKSTEP_BIN_DIR", str(SOURCE / "build/cpu-release/bin"))
sys.path.insert(0, str(SOURCE / "tests/e2e"))

import examples  # noqa: E402  (found through the path above)


def main():
    known = examples.SHORT | examples.LONG
    names = sys.argv[1:] or list(examples.LONG)
    missed = 0
    for name in names:
        if name not in known:
            sys.exit(f"no example {name}; known: {', '.join(known)}")
        began = time.monotonic()
        found = examples.train(known[name])
        reached = found >= known[name].at_least
        missed += not reached
        print(f"{name}: {known[name].metric} {found:.4f}, at least {known[name].at_least} asked, "
              f"{time.monotonic() - began:.0f} s{'' if reached else '  MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
