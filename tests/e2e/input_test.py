# SPDX-License-Identifier: Apache-2.0
"""Samples that are changed on their way and read from their files while training goes on."""

import os
import pathlib
import tempfile
import unittest

import arrays
import harness
import processes
from harness import MLP, Coordinator, job, model_sha256, wait_until

CHANGES = [{"random_shift": {"vertical": 1, "horizontal": 1}}, {"random_rotation": {"degrees": 10}},
           {"random_crop": {"padding": 1}}, {"cutout": {"size": 3}}]
NORMALIZE = {"mean": [0.3], "stddev": [0.25]}
# Five batches of 32 pictures, three pieces of 256 held-out ones, and what is set aside for buffers.
LIMIT = 3 << 20


class InputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        cls.root = pathlib.Path(cls.folder.name)
        arrays.write_pictures(cls.root / "pictures", shards=5, samples=400)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def spec(self, name, folder="pictures", epochs=2, workers=1, **dataset):
        spec = job(name, "", MLP, epochs=epochs, workers=workers, shards=4)
        return spec | {"dataset": arrays.numpy_dataset(folder, **dataset)}

    def changed(self, name, **options):
        return self.spec(name, augmentation=CHANGES, normalize=NORMALIZE, **options)

    def test_the_same_bits_for_any_workers_from_memory_and_from_files(self):
        with Coordinator([self.root]) as coordinator:
            models = {}
            for workers in (1, 2, 4):
                models[workers] = coordinator.train(self.changed(f"whole-{workers}", workers=workers))
                models[-workers] = coordinator.train(
                    self.changed(f"read-{workers}", workers=workers, memory_limit_bytes=LIMIT))
            digests = {key: model_sha256(done) for key, done in models.items()}
            self.assertEqual(len(set(digests.values())), 1, digests)
            self.assertNotEqual(model_sha256(coordinator.train(self.spec("plain"))), digests[1])
            done = models[-1]
            self.assertGreater(float(done["progress"]["testAccuracy"]), 0.5)
            self.assertIn("dataWaitShare", done["progress"])
            self.assertIn("data wait", coordinator.cli("show", done["jobId"]).stdout)

    def test_killed_rank(self):
        with Coordinator([self.root]) as coordinator:
            whole = model_sha256(coordinator.train(self.changed("undisturbed", epochs=30)))
            job_id = coordinator.submit(self.changed("killed", epochs=30, workers=2, memory_limit_bytes=LIMIT))
            wait_until("a step is committed", lambda: int(coordinator.show(job_id)["progress"].get("step", 0)) > 0)
            processes.kill(processes.ranks(job_id)[1])
            done = coordinator.wait(job_id)
            self.assertEqual(done["state"], "JOB_STATE_SUCCEEDED", done)
            self.assertEqual(int(done["restarts"]), 1)
            self.assertEqual(model_sha256(done), whole)
            coordinator.cli("audit", job_id)

    def test_a_file_that_is_cut_short_fails_the_job_with_its_place(self):
        arrays.write_pictures(self.root / "cut", shards=3, samples=200)
        with Coordinator([self.root]) as coordinator:
            job_id = coordinator.submit(self.spec("cut", folder="cut", epochs=100_000, memory_limit_bytes=LIMIT))
            wait_until("a step is committed", lambda: int(coordinator.show(job_id)["progress"].get("step", 0)) > 0)
            os.truncate(self.root / "cut/train-0001-x.npy", 10_000)
            done = coordinator.wait(job_id)
            self.assertEqual(done["state"], "JOB_STATE_FAILED")
            self.assertIn("train-0001-x.npy", done["reason"])
            self.assertIn("of 200", done["reason"])
            self.assertEqual(int(done.get("restarts", 0)), 0)

    def test_the_limit_is_kept(self):
        """A worker with a set of 40 MB needs no more than one with a set of kilobytes, and the limit."""
        arrays.write_pictures(self.root / "tiny", shards=1, samples=400, test=10)
        count = 280_000
        large = self.root / "large"
        large.mkdir()
        picture = arrays.picture(3, 0)
        arrays.write_npy(large / "train-0-x.npy", "|u1", [count, 1, arrays.SIDE, arrays.SIDE], picture * count)
        arrays.write_npy(large / "train-0-y.npy", "|u1", [count], bytes(count))
        for name in ("test-x.npy", "test-y.npy"):
            os.link(self.root / "tiny" / name, large / name)
        limit = LIMIT + 4 * count
        with Coordinator([self.root]) as coordinator:
            def peak(name, **options):
                job_id = coordinator.submit(self.spec(name, epochs=100_000, **options))
                wait_until("500 steps are committed",
                           lambda: int(coordinator.show(job_id)["progress"].get("step", 0)) > 500)
                status = pathlib.Path(f"/proc/{processes.ranks(job_id)[0]}/status").read_text()
                coordinator.cli("cancel", job_id)
                coordinator.wait(job_id)
                return 1024 * int(status.split("VmHWM:")[1].split()[0])
            fixed = peak("fixed", folder="tiny")
            self.assertGreater(peak("held", folder="large") - fixed, 30 << 20, "else nothing is measured")
            self.assertLessEqual(peak("read", folder="large", memory_limit_bytes=limit) - fixed, limit)

    def test_what_cannot_be_is_refused_at_submit(self):
        with Coordinator([self.root]) as coordinator:
            cases = {
                "dataset.memory_limit_bytes": self.spec("bad", memory_limit_bytes=100_000),
                "dataset.augmentation[0].cutout.size": self.spec("bad", augmentation=[{"cutout": {"size": 13}}]),
                "dataset.normalize.stddev[0]": self.spec("bad", normalize={"mean": [0], "stddev": [0]}),
            }
            for field, spec in cases.items():
                path = coordinator.folder / "bad.json"
                path.write_text(harness.json.dumps(spec))
                done = coordinator.cli("submit", path, check=False)
                self.assertEqual(done.returncode, 2, (field, done.stdout, done.stderr))
                self.assertIn(field, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
