# SPDX-License-Identifier: Apache-2.0
"""A job that does not fit into memory fails for good and says what it wanted; the service goes on."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import harness
from harness import BIN, MLP, Coordinator, job

# Few weights, but an activation of 2.5 million planes for each of a thousand samples: more than any machine has, so
# that it is refused before a byte of it is touched.
TOO_LARGE = [{"reshape": {"target_shape": [1, 28, 28]}}, {"conv2d": {"filters": 2_500_000, "kernel_size": 1}},
             {"conv2d": {"filters": 1, "kernel_size": 1}}, {"flatten": {}}, {"dense": {"units": 10}}]


class MemoryTest(unittest.TestCase):
    def test_a_job_that_does_not_fit_fails_and_the_next_one_runs(self):
        with tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-") as folder:
            root = pathlib.Path(folder)
            harness.synthetic_data(root)
            # One slot: the second job waits for the first one's.
            with Coordinator([root], slots=1) as coordinator:
                spec = job("too-large", "synthetic-digits", TOO_LARGE, batch=1000, workers=1)
                too_large = coordinator.submit(spec)
                fits = coordinator.submit(job("fits", "synthetic-digits", MLP, workers=1))

                failed = coordinator.wait(too_large, seconds=60)
                self.assertEqual(failed["state"], "JOB_STATE_FAILED")
                reason = failed["reason"]
                self.assertIn("RESOURCE_EXHAUSTED: cannot allocate ", reason)
                # Once: on the next launch there would be no more memory.
                self.assertEqual(int(failed.get("restarts", 0)), 0)
                self.assertIn("lockstep plan", reason)
                for part, amount in self.plan(coordinator, root, spec).items():
                    self.assertIn(f"{amount} in all" if part == "total" else f"{part} {amount}", reason)

                self.assertEqual(coordinator.wait(fits, seconds=60)["state"], "JOB_STATE_SUCCEEDED")
                self.assertIsNone(coordinator.process.poll())

    def plan(self, coordinator, root, spec):
        """What `lockstep plan` says beforehand: of each part, how much."""
        path = coordinator.folder / "too-large.json"
        path.write_text(json.dumps(spec))
        lines = subprocess.run([BIN / "lockstep", "plan", path], env={**os.environ, "LOCKSTEP_DATA_DIR": str(root)},
                               check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()[1:]
        parts = dict(line.split(maxsplit=1) for line in lines)
        self.assertEqual(list(parts), ["parameters", "gradients", "optimizer", "activations", "workspace", "data", "total"])
        return parts


if __name__ == "__main__":
    unittest.main()
