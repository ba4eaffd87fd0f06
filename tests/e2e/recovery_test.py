# SPDX-License-Identifier: Apache-2.0
"""Workers and coordinators die, scale and stop; the trained bits are those of an undisturbed run."""

import json
import pathlib
import signal
import tempfile
import time
import unittest

import harness
import processes
from harness import MLP, Coordinator, job, model_sha256, wait_until

EPOCHS = 40


class RecoveryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        cls.root = pathlib.Path(cls.folder.name)
        harness.synthetic_data(cls.root)
        with Coordinator([cls.root]) as coordinator:
            cls.whole = model_sha256(coordinator.train(cls.spec("whole")))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def spec(cls, name, **options):
        return job(name, "synthetic-digits", MLP, **({"epochs": EPOCHS, "workers": 2, "shards": 4} | options))

    def begin(self, coordinator, name, **options):
        """A job that has committed some steps."""
        job_id = coordinator.submit(self.spec(name, **options))
        wait_until("a step is committed", lambda: steps(coordinator, job_id) > 0)
        return job_id

    def check(self, coordinator, job_id):
        """The job ends with the bits of the undisturbed run and a clean record."""
        done = coordinator.wait(job_id)
        self.assertEqual(done["state"], "JOB_STATE_SUCCEEDED", done)
        self.assertEqual(model_sha256(done), self.whole)
        coordinator.cli("audit", job_id)
        sequences = [int(e["sequence"]) for e in coordinator.events(job_id)]
        self.assertEqual(sequences, list(range(1, len(sequences) + 1)))
        return done

    def test_killed_rank(self):
        with Coordinator([self.root]) as coordinator:
            job_id = self.begin(coordinator, "killed")
            self.assertEqual(sorted(processes.ranks(job_id)), [0, 1])
            self.assertTrue(processes.shared_memory(job_id), "a running job has something to leave")
            at = steps(coordinator, job_id)
            began = time.monotonic()
            processes.kill(processes.ranks(job_id)[1])
            wait_until("a new step is committed",
                       lambda: generation(coordinator, job_id) == 2 and steps(coordinator, job_id) > at)
            self.assertLess(time.monotonic() - began, 3.0)
            done = self.check(coordinator, job_id)
            self.assertEqual(int(done["restarts"]), 1)
            reasons = [e["stateChanged"]["reason"] for e in coordinator.events(job_id) if "stateChanged" in e]
            self.assertTrue(any("rank" in reason and "died" in reason for reason in reasons), reasons)
            self.assertEqual(processes.of_job(job_id), [])
            self.assertEqual(processes.shared_memory(job_id), [])

    def test_a_job_that_never_gets_on_fails_with_the_reason_of_each_start(self):
        arms = self.root / "failpoints"
        arms.write_text("worker.start exit rank=1\n" * 4)
        with Coordinator([self.root], options=["--failpoints", arms]) as coordinator:
            done = coordinator.wait(coordinator.submit(self.spec("stillborn")))
            self.assertEqual(done["state"], "JOB_STATE_FAILED")
            self.assertIn("no progress through 3 restarts", done["reason"])
            for n in range(1, 5):
                self.assertIn(f"({n})", done["reason"])
            self.assertEqual(processes.of_job(done["jobId"]) + processes.shared_memory(done["jobId"]), [])

    def test_killed_coordinator_takes_the_running_group_up_again(self):
        with Coordinator([self.root]) as coordinator:
            job_id = self.begin(coordinator, "orphaned")
            coordinator.process.kill()
            coordinator.process.wait()
            coordinator.start()
            done = self.check(coordinator, job_id)
            self.assertEqual(int(done["generation"]), 1, "the group went on")

    def test_scale(self):
        with Coordinator([self.root]) as coordinator:
            job_id = self.begin(coordinator, "scaled")
            for workers in (4, 1, 3):
                now, at = generation(coordinator, job_id), steps(coordinator, job_id)
                began = time.monotonic()
                coordinator.cli("scale", job_id, str(workers))
                wait_until(f"the {workers} new workers commit", lambda: generation(coordinator, job_id) > now
                           and len(processes.ranks(job_id)) == workers
                           and coordinator.show(job_id)["state"] == "JOB_STATE_RUNNING"
                           and steps(coordinator, job_id) > at)
                self.assertLess(time.monotonic() - began, 5.0)
            self.check(coordinator, job_id)
            ledger = json.loads(coordinator.cli("-o", "json", "audit", job_id).stdout)
            self.assertTrue(ledger)

    def test_sigterm_to_a_worker_saves_and_loses_no_step(self):
        with Coordinator([self.root]) as coordinator:
            job_id = self.begin(coordinator, "asked")
            ranks = set(processes.ranks(job_id).values())
            began = time.monotonic()
            processes.kill(min(ranks), signal.SIGTERM)
            wait_until("the group has ended", lambda: not ranks & set(processes.of_job(job_id)))
            self.assertLess(time.monotonic() - began, 5.0)
            self.check(coordinator, job_id)
            commits = [e["stepsCommitted"] for e in coordinator.events(job_id) if "stepsCommitted" in e]
            ends = [int(c["endStep"]) for c in commits]
            self.assertEqual([int(c.get("firstStep", 0)) for c in commits], [0] + ends[:-1], "no step is done twice")

    def test_verify_and_diff(self):
        with Coordinator([self.root]) as coordinator:
            first = coordinator.train(self.spec("first", epochs=6))["jobId"]
            second = coordinator.train(self.spec("second", epochs=6, workers=1))["jobId"]
            other = coordinator.train(self.spec("other", epochs=6, seed=2))["jobId"]
            self.assertEqual(coordinator.cli("diff", first, second).returncode, 0)
            self.assertEqual(coordinator.cli("diff", first, other, check=False).returncode, 1)
            verified = coordinator.cli("verify", first, "--steps", "200..320")
            self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
            self.assertIn("equal", verified.stdout)

    def test_resume_from_an_earlier_checkpoint_with_other_workers(self):
        with Coordinator([self.root]) as coordinator:
            done = coordinator.train(self.spec("again"))
            self.assertEqual(model_sha256(done), self.whole)
            listed = json.loads(coordinator.cli("-o", "json", "checkpoints", done["jobId"]).stdout)["checkpoints"]
            step = [int(c["step"]) for c in listed if not c.get("final")][0]
            coordinator.cli("resume", done["jobId"], "--from", str(step), "--workers", "3")
            self.assertEqual(int(self.check(coordinator, done["jobId"])["workers"]), 3)


def steps(coordinator, job_id):
    return int(coordinator.show(job_id).get("progress", {}).get("step", 0))


def generation(coordinator, job_id):
    return int(coordinator.show(job_id).get("generation", 0))


if __name__ == "__main__":
    unittest.main()
