# SPDX-License-Identifier: Apache-2.0
"""What every fault uses: data, coordinators, undisturbed runs to compare with, and jobs under fire."""

import contextlib
import hashlib
import json
import math
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import time

import harness
import processes
from harness import Coordinator, MLP
from watcher import Watcher

SHARDS = 4
# No strike after this share of a job, so that each one's recovery is still seen.
LAST_STRIKE = 0.8
# No step is faster, so that a job lasts as long as is asked for on a fast machine too.
STEP_SECONDS = 0.001
STEPS_PER_EPOCH = 250
BATCH = 32
DIGEST_STEPS = 100


def free_port():
    """A port that no outgoing connection takes while the coordinator is down."""
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


def model_sha256(job):
    return hashlib.sha256((pathlib.Path(job["outputDir"]) / "model.safetensors").read_bytes()).hexdigest()


class Lab:
    def __init__(self, seed, workers, seconds):
        self.seed = seed
        self.workers = workers
        # How long an undisturbed job is to last, at the least.
        self.seconds = seconds
        self.random = random.Random(seed)
        self._folder = tempfile.TemporaryDirectory(prefix="lockstep-chaos-data-")
        self.root = pathlib.Path(self._folder.name)
        # Coordinators have their folders in here too.
        tempfile.tempdir = str(self.root)
        harness.synthetic_data(self.root, train=STEPS_PER_EPOCH * BATCH, test=200)
        commands = subprocess.run([harness.BIN / "lockstep", "--help"], capture_output=True, text=True, check=True)
        self.can_audit = re.search(r"^  audit\b", commands.stdout, re.MULTILINE) is not None
        self._undisturbed = {}
        self._pace = self.root / "pace"
        self._pace.write_text(f"step.forward delay={round(1000 * STEP_SECONDS)} always\n")

    def close(self):
        tempfile.tempdir = None
        self._folder.cleanup()

    def draw(self, fault):
        """The fault's own randomness, so that each can be repeated alone."""
        self.random = random.Random(f"{self.seed} {fault}")

    def spec(self, name, epochs, workers, checkpoint_steps=0):
        spec = harness.job(name, "synthetic-digits", MLP, batch=BATCH, epochs=epochs, workers=workers, shards=SHARDS)
        spec["training"] |= {"checkpoint_interval_steps": checkpoint_steps, "digest_interval_steps": DIGEST_STEPS}
        return spec

    @contextlib.contextmanager
    def coordinator(self, **options):
        options.setdefault("listen", f"127.0.0.1:{free_port()}")
        if "--failpoints" not in options.get("options", []):
            options["options"] = [*options.get("options", []), "--failpoints", self._pace]
        with Coordinator([self.root], **options) as coordinator:
            yield coordinator

    @staticmethod
    def epochs_for(seconds):
        return max(3, math.ceil(seconds / STEP_SECONDS / STEPS_PER_EPOCH))

    def undisturbed(self, epochs):
        """SHA-256 of the model that so many epochs give when nothing happens."""
        if epochs not in self._undisturbed:
            # Nobody waits for it: at full speed.
            with Coordinator([self.root]) as coordinator:
                done = coordinator.train(self.spec("undisturbed", epochs, self.workers[0]), seconds=1800)
                self._undisturbed[epochs] = model_sha256(done)
        return self._undisturbed[epochs]

    def start(self, coordinator, row, seconds=None, steps=None, workers=None, checkpoint_steps=0):
        """Submits a job of at least so many seconds, or of exactly so many steps, and watches it."""
        epochs = steps // STEPS_PER_EPOCH if steps else self.epochs_for(seconds or self.seconds)
        expected = self.undisturbed(epochs)
        workers = workers or self.random.choice(self.workers)
        return Run(self, coordinator, row, self.spec(f"chaos-{row.fault}"[:40], epochs, workers, checkpoint_steps),
                   expected)

    def strike(self, row, coordinator, count, strike, lasts=0.0, **options):
        """Injects `count` faults into as many jobs as that takes. `strike(run)` does one and waits until it is
        over; training goes on for up to `lasts` seconds meanwhile."""
        # Each job has room for one at least.
        options["seconds"] = max(options.get("seconds", self.seconds), 2 + 2 * lasts)
        while row.count < count and not row.problems:
            with self.job(row, coordinator, **options) as run:
                while row.count < count and run.wait_for_room(self.random.uniform(0.0, 0.6), lasts):
                    strike(run)
                    row.count += 1

    @contextlib.contextmanager
    def job(self, row, coordinator, **options):
        """A job that ends, and is checked, when the block does. What goes wrong is put in the row."""
        run = self.start(coordinator, row, **options)
        before = row.count
        row.jobs += 1
        try:
            yield run
            run.finish()
        except (AssertionError, OSError, json.JSONDecodeError) as error:
            row.problems.append(f"job {run.id} (fault {row.count + 1}, of this job {row.count - before + 1}, state "
                                f"{run.watcher.state()}): {error}")
            row.problems.append(run.keep())
            processes.sweep(run.id)
        finally:
            run.watcher.stop()


class Run:
    """One job under fire."""

    def __init__(self, lab, coordinator, row, spec, expected):
        self.lab, self.coordinator, self.row, self.expected = lab, coordinator, row, expected
        self.total = spec["training"]["epochs"] * STEPS_PER_EPOCH
        self.folders_before = processes.mpi_folders()
        self.id = coordinator.submit(spec)
        self.watcher = Watcher(coordinator, self.id)

    # What is known of it now.
    def generation(self):
        commits = self.watcher.commits()
        return commits[-1].generation if commits else 0

    def committed(self):
        return max((c.end for c in self.watcher.commits()), default=0)

    def wait_for_room(self, pause, lasts=0.0):
        """Lets the newest group commit, and run on for `pause` seconds. False: too late for another strike, through
        which training goes on for `lasts` seconds."""
        generation = self.watcher.state()[2]
        self.watcher.wait("the group commits a step",
                          lambda: self.generation() >= max(1, generation) or self._over(), 60)
        self.watcher.pause(pause)
        last = min(LAST_STRIKE * self.total, self.total - lasts / STEP_SECONDS)
        return not self._over() and self.committed() < last

    def _over(self):
        return self.watcher.ended or self.watcher.state()[0] in (
            "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")

    def wait(self, what, condition, seconds=60.0):
        """As Watcher.wait, but a job that ends too early is told at once."""
        def or_over():
            value = condition()
            assert value or not self._over(), f"{what}: the job ended first: {self.watcher.state()}"
            return value
        return self.watcher.wait(what, or_over, seconds)

    def rank_pids(self):
        """Pid by rank, once all of the newest group are there."""
        return processes.ranks(self.id)

    def recovered(self, moment, generation=None, seconds=60.0, measure=True):
        """Waits for the first new step after a strike at `moment`; where `generation` is given, from a later group
        than that. Notes how long it took and how many steps were done again."""
        def old(commit):
            return commit.time <= moment if generation is None else commit.generation <= generation

        def new():
            commits = self.watcher.commits()
            before = [c for c in commits if old(c)]
            after = [c for c in commits if not old(c)]
            high = max((c.end for c in before), default=0)
            first = next((c for c in after if c.end > high), None)
            return None if first is None else (before, after, high, first)

        before, after, high, first = self.wait("a new step is committed", new, seconds)
        if measure:
            self.row.recovery.append(first.time - moment)
        self.row.redone.append(max(0, high - after[0].first))
        return before, first

    def kept_generation(self, generation):
        assert self.generation() == generation, (
            f"the group was started again: generation {self.generation()} after {generation}: {self.watcher.state()}")

    def finish(self, seconds=600.0):
        """The job ends right, with the right bits, every step once and every event once."""
        done = self.coordinator.wait(self.id, seconds=seconds)
        assert done["state"] == "JOB_STATE_SUCCEEDED", f"{done['state']}: {done.get('reason')}"
        self.row.ended_right += 1
        digest = model_sha256(done)
        assert digest == self.expected, f"the model is {digest}, undisturbed it is {self.expected}"
        self.row.digest_equal += 1
        self.watcher.wait("the watcher sees the end", lambda: self.watcher.ended, 30)
        stored = self.coordinator.events(self.id)
        sequences = [int(event["sequence"]) for event in stored]
        assert sequences == list(range(1, len(stored) + 1)), "stored events are missing or doubled"
        assert [e for _, e in self.watcher.events] == stored, "the watcher did not see every event exactly once"
        self._check_ledger()
        if self.lab.can_audit:
            audit = self.coordinator.cli("audit", self.id, check=False)
            assert audit.returncode == 0, f"audit: {audit.stdout}{audit.stderr}"
        left = lambda: processes.leftovers([self.id], self.coordinator.state_dir, self.folders_before)
        try:
            harness.wait_until("nothing is left", lambda: not left(), 10)
        except AssertionError:
            self.row.leftovers += left()

    def _check_ledger(self):
        """Each group goes on where the ledger stood, or before it, and the last one ends it."""
        end, generation = 0, 0
        for commit in self.watcher.commits():
            if commit.generation == generation:
                assert commit.first == end, f"steps [{commit.first}, {commit.end}) follow on {end}"
            else:
                assert commit.generation > generation, f"generation {commit.generation} after {generation}"
                assert commit.first <= end, f"steps [{end}, {commit.first}) are missing"
            end, generation = commit.end, commit.generation
        assert end == self.total, f"{end} of {self.total} steps are committed"

    def keep(self):
        """Keeps what tells why, and says where."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-chaos-kept-", dir=self.lab.root.parent))
        with self.watcher.changed:
            (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for _, e in self.watcher.events))
        for path in [self.coordinator.folder / "coordinator.log",
                     *pathlib.Path(self.coordinator.state_dir).glob(f"jobs/{self.id}/run/*/*.log")]:
            (folder / "-".join(path.parts[-3:])).write_bytes(path.read_bytes())
        return f"events and logs are kept in {folder}"
