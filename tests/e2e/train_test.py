# SPDX-License-Identifier: Apache-2.0
"""What a user relies on, with real processes: same bits, clear ends, nothing left behind."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import harness
import processes
from harness import MLP, Coordinator, job, model_sha256, wait_until


class TrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        cls.root = pathlib.Path(cls.folder.name)
        harness.synthetic_data(cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def spec(self, name, **options):
        return job(name, "synthetic-digits", MLP, **options)

    def test_same_bits_for_one_to_four_workers_and_again(self):
        with Coordinator([self.root]) as coordinator:
            digests = {}
            for run, workers in enumerate([1, 2, 3, 4, 2]):
                done = coordinator.train(self.spec(f"bits-{run}", workers=workers, shards=4))
                digests[run] = model_sha256(done)
            self.assertEqual(len(set(digests.values())), 1, digests)
            other = coordinator.train(self.spec("other", workers=2, shards=4, seed=2))
            self.assertNotEqual(model_sha256(other), digests[0])

    def test_the_fastest_sum_trains_alike_without_the_promise(self):
        with Coordinator([self.root]) as coordinator:
            accuracy = {}
            for reduction in ("CANONICAL", "FASTEST"):
                spec = self.spec(reduction.lower(), workers=3, epochs=2)
                spec["training"]["reduction"] = f"REDUCTION_{reduction}"
                done = coordinator.train(spec)
                accuracy[reduction] = done["progress"]["testAccuracy"]
            self.assertAlmostEqual(accuracy["FASTEST"], accuracy["CANONICAL"], delta=0.03)
            refused = coordinator.cli("verify", done["jobId"], "--steps", "0..10", check=False)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn("REDUCTION_FASTEST", refused.stderr)

    def test_result_files(self):
        with Coordinator([self.root]) as coordinator:
            done = coordinator.train(self.spec("files", epochs=2))
            folder = pathlib.Path(done["outputDir"])
            self.assertEqual(json.loads((folder / "spec.json").read_text())["name"], "files")
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            self.assertTrue(lines)
            raw = (folder / "model.safetensors").read_bytes()
            header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
            self.assertEqual(header["dense/kernel"]["shape"], [784, 128])
            self.assertEqual(header["dense_1/bias"]["shape"], [10])

    def test_events_are_gapless_and_resume_by_sequence(self):
        with Coordinator([self.root]) as coordinator:
            done = coordinator.train(self.spec("events", epochs=2))
            events = coordinator.events(done["jobId"])
            self.assertEqual([int(e["sequence"]) for e in events], list(range(1, len(events) + 1)))
            steps = [e["stepsCommitted"] for e in events if "stepsCommitted" in e]
            end = 0
            for step in steps:
                self.assertEqual(int(step.get("firstStep", 0)), end)
                end = int(step["endStep"])
            self.assertEqual(end, 2 * 63)

    def test_cancel(self):
        with Coordinator([self.root]) as coordinator:
            job_id = coordinator.submit(self.spec("cancelled", epochs=10_000))
            coordinator.wait(job_id, states=("JOB_STATE_RUNNING",))
            coordinator.cli("cancel", job_id)
            done = coordinator.wait(job_id, seconds=10)
            self.assertEqual(done["state"], "JOB_STATE_CANCELLED")
            self.assertEqual(coordinator.cli("watch", job_id, check=False).returncode, 3)

    def test_drained_coordinator_goes_on_after_its_restart_to_the_same_bits(self):
        with Coordinator([self.root]) as coordinator:
            whole = model_sha256(coordinator.train(self.spec("whole", epochs=12)))
            job_id = coordinator.submit(self.spec("drained", epochs=12))
            wait_until("a step is committed", lambda: int(coordinator.show(job_id).get("progress", {}).get("step", 0)) > 0)
            self.assertLess(coordinator.stop(), 5.0)
            coordinator.start()
            done = coordinator.wait(job_id)
            self.assertEqual(done["state"], "JOB_STATE_SUCCEEDED", done)
            self.assertGreater(int(done["generation"]), 1)
            self.assertEqual(model_sha256(done), whole)
            sequences = [int(e["sequence"]) for e in coordinator.events(job_id)]
            self.assertEqual(sequences, list(range(1, len(sequences) + 1)))

    def test_a_bad_label_is_refused_at_submit(self):
        bad = self.root / "bad"
        bad.mkdir(exist_ok=True)
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                     "t10k-labels-idx1-ubyte"):
            raw = bytearray((self.root / "synthetic-digits" / name).read_bytes())
            if name == "train-labels-idx1-ubyte":
                raw[8 + 17] = 200
            (bad / name).write_bytes(raw)
        with Coordinator([self.root]) as coordinator:
            path = coordinator.folder / "job.json"
            path.write_text(json.dumps(job("bad", "bad", MLP)))
            done = coordinator.cli("submit", path, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("200", done.stderr)

    def test_data_that_breaks_after_the_submit_fails_the_job_with_its_place(self):
        later = self.root / "later"
        later.mkdir(exist_ok=True)
        for source in (self.root / "synthetic-digits").iterdir():
            (later / source.name).write_bytes(source.read_bytes())
        with Coordinator([self.root], slots=2) as coordinator:
            # The first job holds the slots while the second one's data is cut short.
            first = coordinator.submit(self.spec("first", epochs=10_000))
            second = coordinator.submit(job("second", "later", MLP))
            images = later / "train-images-idx3-ubyte"
            images.write_bytes(images.read_bytes()[:-1])
            coordinator.cli("cancel", first)
            done = coordinator.wait(second)
            self.assertEqual(done["state"], "JOB_STATE_FAILED")
            self.assertIn("train-images-idx3-ubyte", done["reason"])
            self.assertIn("truncated", done["reason"])

    def test_refused_specs(self):
        with Coordinator([self.root]) as coordinator:
            cases = {
                "units": self.spec("bad", optimizer={"adam": {"learning_rate": -1}}) | {
                    "model": {"layers": [{"flatten": {}}, {"dense": {"units": 0}}]}},
                "batch_size": self.spec("bad", batch=1_000_000),
                "activation": self.spec("bad") | {
                    "model": {"layers": [{"flatten": {}}, {"dense": {"units": 10, "activation": "relo"}}]}},
                "leads outside": job("bad", "../../etc", MLP),
                "workers": self.spec("bad", workers=64),
            }
            for field, spec in cases.items():
                path = coordinator.folder / "bad.json"
                path.write_text(json.dumps(spec))
                done = coordinator.cli("submit", path, check=False)
                self.assertEqual(done.returncode, 2, (field, done.stdout, done.stderr))
                self.assertIn(field, done.stderr)
            # Both faults of the first one at once.
            path.write_text(json.dumps(cases["units"]))
            self.assertIn("learning_rate", coordinator.cli("submit", path, check=False).stderr)

    def test_second_coordinator_on_the_same_state(self):
        with Coordinator([self.root]) as coordinator:
            second = subprocess.run([harness.BIN / "lockstepd", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                                     "--state-dir", coordinator.state_dir], capture_output=True, text=True, timeout=20)
            self.assertEqual(second.returncode, 1)
            self.assertIn(str(coordinator.process.pid), second.stderr)
            taken = subprocess.run([harness.BIN / "lockstepd", "--listen", coordinator.grpc, "--http", "127.0.0.1:0",
                                    "--state-dir", coordinator.folder / "other"], capture_output=True, text=True,
                                   timeout=20)
            self.assertEqual(taken.returncode, 1)
            self.assertIn("in use", taken.stderr)

    def test_no_mpirun(self):
        empty = self.root / "empty-path"
        empty.mkdir(exist_ok=True)
        started = subprocess.run([harness.BIN / "lockstepd", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                                  "--state-dir", self.root / "no-mpirun"], capture_output=True, text=True, timeout=20,
                                 env={"PATH": str(empty)})
        self.assertEqual(started.returncode, 1)
        self.assertIn("mpirun", started.stderr)

    def test_health(self):
        with Coordinator([self.root]) as coordinator:
            self.assertEqual(coordinator.cli("health").stdout, "serving\n")
            coordinator.stop()
            self.assertEqual(coordinator.cli("health", check=False).returncode, 5)

    def test_silent_server(self):
        import socket
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            began = time.monotonic()
            done = subprocess.run([harness.BIN / "lockstep", "--server", f"127.0.0.1:{silent.getsockname()[1]}",
                                   "--timeout", "1", "list"], capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 5)
            self.assertLess(time.monotonic() - began, 2.0)

    def test_run_is_one_command(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "job.json"
            path.write_text(json.dumps(self.spec("alone")))
            done = subprocess.run([harness.BIN / "lockstep", "run", path, "--out", pathlib.Path(folder) / "out"],
                                  capture_output=True, text=True, timeout=120,
                                  env=os.environ | {"LOCKSTEP_DATA_DIR": str(self.root)})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("model.safetensors", done.stdout)

    def test_a_run_that_is_ended_leaves_nothing_behind(self):
        for end in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL):
            with tempfile.TemporaryDirectory() as folder:
                path, out = pathlib.Path(folder) / "job.json", pathlib.Path(folder) / "out"
                spec = self.spec("ended")
                spec["training"]["epochs"] = 100_000
                path.write_text(json.dumps(spec))
                run = subprocess.Popen([harness.BIN / "lockstep", "run", path, "--out", out], stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, env=os.environ | {"LOCKSTEP_DATA_DIR": str(self.root)})
                log = out / "coordinator.log"
                harness.wait_until("it trains", lambda: log.exists() and b"RUNNING" in log.read_bytes())
                run.send_signal(end)
                output, _ = run.communicate(timeout=60)
                if end == signal.SIGKILL:
                    # Nobody waits for the coordinator.
                    harness.wait_until("all has ended", lambda: processes.find(str(out)) == [])
                    continue
                self.assertEqual(run.returncode, 130, output)
                self.assertEqual(processes.find(str(out)), [], f"after {end!r}: {output}")


if __name__ == "__main__":
    unittest.main()
