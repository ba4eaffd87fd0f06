# SPDX-License-Identifier: Apache-2.0
"""examples/precision compares what it can on this machine, and says what it cannot."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import harness

COMPARE = harness.SOURCE / "examples" / "precision" / "compare"
ROW = re.compile(r"(\w+) +(\d\.\d{4}) +(\d\.\d{4}) +(\d+\.\d{3})(  .*)?")


class PrecisionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        harness.synthetic_data(pathlib.Path(cls.folder.name))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def compare(self, *options):
        # Whatever the machine has, CUDA shows none of it.
        environment = {**os.environ, "LOCKSTEP_DATA_DIR": self.folder.name, "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run([sys.executable, COMPARE, "--set=dataset.idx.path=synthetic-digits",
                               "--set=training.batch_size=16", *options],
                              env=environment, capture_output=True, text=True, timeout=240)

    def test_the_cpu_compares_two_precisions_and_says_that_two_need_a_gpu(self):
        done = self.compare("--seeds", "2", "--epochs", "2")
        # Two runs have whatever spread chance gives them.
        self.assertIn(done.returncode, (0, 1), done.stderr)
        lines = done.stdout.splitlines()
        rows = {m[1]: m for m in map(ROW.fullmatch, lines) if m}
        self.assertEqual(list(rows), ["float32", "bfloat16"], done.stdout)
        for row in rows.values():
            self.assertGreater(float(row[2]), 0.7)
            self.assertGreater(float(row[4]), 0)
        self.assertIsNone(rows["float32"][5])
        within = done.returncode == 0
        self.assertRegex(rows["bfloat16"][5], f"apart, {'within' if within else 'MORE than'} the spread of")
        for precision in ("tf32", "float16"):
            self.assertTrue(any(line.startswith(precision) and "not run: needs a GPU" in line for line in lines), lines)
        self.assertTrue(any(line.startswith("no GPU: ") for line in lines), lines)

    def test_one_run_has_no_spread(self):
        refused = self.compare("--seeds", "1")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--seeds must be at least 2", refused.stderr)

    def test_a_job_that_fails_is_told_of(self):
        refused = self.compare("--set=optimizer.adam.learning_rate=-1")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("float32 with seed 1 failed", refused.stderr)
        self.assertIn("learning_rate", refused.stderr)


if __name__ == "__main__":
    unittest.main()
