# SPDX-License-Identifier: Apache-2.0
"""A client that watches a job all the time, through every restart of the coordinator."""

import dataclasses
import datetime
import fcntl
import json
import subprocess
import threading
import time

import harness


def seconds_of(timestamp):
    """Seconds since the epoch of a protobuf timestamp in JSON."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + (float("0." + fraction) if fraction else 0.0)


@dataclasses.dataclass(frozen=True)
class Commit:
    """A range of steps that the coordinator has stored."""
    time: float     # by the coordinator's clock
    arrival: float  # by the watcher's
    generation: int
    first: int
    end: int


def commits_of(events):
    found = []
    for arrival, event in events:
        steps = event.get("stepsCommitted")
        if steps is not None:
            found.append(Commit(seconds_of(event["time"]), arrival, int(steps.get("generation", 0)),
                                int(steps.get("firstStep", 0)), int(steps["endStep"])))
    return found


class StalledWatcher:
    """A client that asks for every event and does not read them."""

    def __init__(self, coordinator, job_id):
        self._process = subprocess.Popen(
            [harness.BIN / "lockstep", "--server", coordinator.grpc, "-o", "json", "watch", job_id],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, 4096)

    def read(self, count):
        """Reads at last; the sequence numbers of the next events."""
        return [int(json.loads(self._process.stdout.readline())["sequence"]) for _ in range(count)]

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Watcher:
    """Runs `lockstep watch`. `events` are (arrival, event), in order; read them under `changed`."""

    def __init__(self, coordinator, job_id):
        self.events = []
        self.changed = threading.Condition()
        self.ended = False
        self._errors = open(coordinator.folder / f"watch-{job_id}.log", "wb")
        self._process = subprocess.Popen(
            [harness.BIN / "lockstep", "--server", coordinator.grpc, "-o", "json", "watch", job_id],
            stdout=subprocess.PIPE, stderr=self._errors, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            with self.changed:
                self.events.append((time.time(), json.loads(line)))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def commits(self):
        with self.changed:
            return commits_of(self.events)

    def warnings(self, kind):
        with self.changed:
            return [e["warning"].get("message", "") for _, e in self.events
                    if e.get("warning", {}).get("kind") == f"WARNING_KIND_{kind}"]

    def state(self):
        """The newest state, its reason and its generation."""
        with self.changed:
            for _, event in reversed(self.events):
                if "stateChanged" in event:
                    change = event["stateChanged"]
                    return change["state"], change.get("reason", ""), int(change.get("generation", 0))
        return "JOB_STATE_UNSPECIFIED", "", 0

    def wait(self, what, condition, seconds=60.0):
        """The first true value of condition(), looked at after every event; AssertionError after a deadline."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                value = condition()
                if value:
                    return value
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {seconds:g} s: {what}")
                self.changed.wait(min(left, 0.05 if self.ended else left))

    def pause(self, seconds):
        """A random moment to strike is reached by letting the job run on."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not self.ended and time.monotonic() < deadline:
                self.changed.wait(deadline - time.monotonic())

    def stop(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()
        self._errors.close()
