# SPDX-License-Identifier: Apache-2.0
"""The examples reach what they promise. Needs LOCKSTEP_DATA_DIR; those that take longer are in bench/examples.py."""

import sys
import time
import unittest

import examples
import harness


class ExamplesTest(unittest.TestCase):
    """Each of at most 60 s on two cores."""


def add(name, example):
    def test(self):
        if harness.real_data(example.data) is None:
            self.skipTest(f"no {example.data} in LOCKSTEP_DATA_DIR")
        began = time.monotonic()
        found = examples.train(example)
        print(f"{name}: {example.metric} {found:.4f} in {time.monotonic() - began:.0f} s", file=sys.stderr)
        self.assertGreaterEqual(found, example.at_least)

    setattr(ExamplesTest, f"test_{name}", test)


for example_name, short in examples.SHORT.items():
    add(example_name, short)


if __name__ == "__main__":
    unittest.main()
