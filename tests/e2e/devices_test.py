# SPDX-License-Identifier: Apache-2.0
"""What a job runs on, and what it says where it cannot."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import harness
from harness import BIN, MLP, Coordinator, job, model_sha256

# Whatever the machine has, CUDA shows none of it.
NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


class DevicesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        cls.root = pathlib.Path(cls.folder.name)
        harness.synthetic_data(cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def spec(self, name, device, **options):
        spec = job(name, "synthetic-digits", MLP, **options)
        spec["resources"]["device"] = device
        return spec

    def test_lists_what_the_machine_has(self):
        def devices(*options):
            return subprocess.run([BIN / "lockstep", "devices", *options], env=NO_GPU, check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
        listed = json.loads(devices("-o", "json"))
        self.assertTrue(listed["cpu"]["model"])
        self.assertIn(listed["cpu"]["instruction_set"], ("avx512", "avx2", "portable"))
        self.assertGreaterEqual(listed["cpu"]["threads"], 1)
        self.assertEqual(listed["gpus"], [])
        self.assertTrue(listed["no_gpu_because"])
        table = devices()
        self.assertIn(listed["cpu"]["model"], table)
        self.assertIn("no GPU: " + listed["no_gpu_because"], table)

    def test_auto_trains_on_the_cpu_and_cuda_fails_where_there_is_no_gpu(self):
        with Coordinator([self.root], environment=NO_GPU) as coordinator:
            cpu = coordinator.train(self.spec("on-cpu", "DEVICE_CPU"))
            auto = coordinator.train(self.spec("on-auto", "DEVICE_AUTO"))
            self.assertEqual(model_sha256(auto), model_sha256(cpu))
            self.assertIn("trains on the CPU: ", coordinator.cli("logs", auto["jobId"]).stdout)
            self.assertNotIn("trains on the CPU: ", coordinator.cli("logs", cpu["jobId"]).stdout)

            failed = coordinator.wait(coordinator.submit(self.spec("on-cuda", "DEVICE_CUDA")), seconds=30)
            self.assertEqual(failed["state"], "JOB_STATE_FAILED")
            self.assertIn("the job asks for GPUs (resources.device is DEVICE_CUDA): ", failed["reason"])
            # Once, and not again and again: the next launch would meet the same machine.
            self.assertEqual(int(failed.get("restarts", 0)), 0)

    def test_tf32_is_refused_where_the_cpu_may_be_asked(self):
        with Coordinator([self.root]) as coordinator:
            spec = self.spec("tf32", "DEVICE_AUTO")
            spec["training"]["precision"] = "PRECISION_TF32"
            path = coordinator.folder / "job.json"
            path.write_text(json.dumps(spec))
            refused = coordinator.cli("submit", path, check=False)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn("PRECISION_TF32 is for GPUs alone", refused.stderr)


if __name__ == "__main__":
    unittest.main()
