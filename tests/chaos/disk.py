# SPDX-License-Identifier: Apache-2.0
"""A full disk, and checkpoints that are damaged on it."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import groups
import harness

SIZE = "48m"
REFUSED = 6
CHECKPOINT_STEPS = 100


@contextlib.contextmanager
def small_disk(folder):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "lockstep-chaos", folder], check=True,
                   capture_output=True, text=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)
        folder.rmdir()


def fill(path):
    """Until not one byte more fits."""
    with open(path, "ab", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"\0" * size)


def metric(coordinator, name):
    """The sum of a metric over its labels; None where there is none."""
    with urllib.request.urlopen(f"http://{coordinator.http}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines) if lines else None


def whole(folder):
    """True where every file of a checkpoint is what its manifest says."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
               for name, entry in manifest["files"].items())


def checkpoints(run):
    """The job's checkpoint folders on disk by step."""
    parent = pathlib.Path(run.coordinator.state_dir) / "jobs" / run.id / "checkpoints"
    return {int(p.name.split("-")[-1]): p for p in parent.glob("step-*")}


def _submits_while_full(run, accepted):
    """Submits until one is refused: what the store still has room for is a true yes."""
    def refused():
        # Large, so that the room is soon gone.
        spec = run.lab.spec("full", 1, 4)
        spec["model"]["layers"] = [*spec["model"]["layers"], *[{"dense": {"units": 10}}] * 200]
        path = run.coordinator.folder / "full.json"
        path.write_text(json.dumps(spec))
        done = run.coordinator.cli("-o", "json", "submit", path, check=False)
        if done.returncode == 0:
            accepted.append(json.loads(done.stdout)["job"]["jobId"])
            return None
        assert done.returncode == REFUSED, f"submit: {done.returncode}: {done.stderr}"
        return done
    return run.wait("a submit is refused", refused, 30)


def disk_full(lab, row, count):
    """Training goes on, nothing false is said, and all is well again when there is room."""
    warned = []

    def strike(run):
        generation, accepted = run.generation(), []
        run.wait("a checkpoint is saved", lambda: checkpoints(run))
        ballast = pathlib.Path(run.coordinator.state_dir) / "ballast"
        before = run.committed()
        fill(ballast)
        try:
            refusal = _submits_while_full(run, accepted)
            alarm = harness.wait_until("the alarm metric is set",
                                       lambda: metric(run.coordinator, "lockstep_store_failing"), 10)
            assert alarm == 1, f"lockstep_store_failing is {alarm}"
            run.watcher.pause(lab.random.uniform(0.5, 2.0))
            newest = max(checkpoints(run).items())
            assert whole(newest[1]), f"{newest[1]} is damaged"
        finally:
            ballast.unlink()
        healed = time.time()
        run.recovered(healed)
        warned.append(len(run.watcher.warnings("CHECKPOINT_FAILED")))
        assert run.committed() > before
        run.kept_generation(generation)
        harness.wait_until("the alarm is over", lambda: metric(run.coordinator, "lockstep_store_failing") == 0, 10)
        assert "RESOURCE_EXHAUSTED" in refusal.stderr or "full" in refusal.stderr, refusal.stderr
        for job_id in accepted:
            run.coordinator.cli("cancel", job_id)

    folder = lab.root / "small-disk"
    try:
        with small_disk(folder), lab.coordinator(state_dir=folder / "state") as coordinator:
            lab.strike(row, coordinator, count, strike, lasts=4, checkpoint_steps=CHECKPOINT_STEPS)
    except subprocess.CalledProcessError as error:
        row.not_run = f"no tmpfs can be mounted here: {error.stderr}"
    row.notes.append(f"checkpoints that failed meanwhile and were told: {max(warned, default=0)}")


def damage(folder, random):
    """Cuts a file short, or flips a bit of one that holds tensors."""
    path = random.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    if path.suffix == ".json" or random.random() < 0.5:
        os.truncate(path, random.randrange(len(data) - 1))
    else:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)


def damaged_checkpoint(lab, row, count):
    """The machine crashes, and a file of the newest checkpoint is cut short or has a flipped bit: an older one is
    used."""
    def usable(run):
        """Steps of the checkpoints that are on disk, known, and covered by the ledger."""
        with run.watcher.changed:
            known = {int(e["checkpointSaved"]["step"]) for _, e in run.watcher.events if "checkpointSaved" in e}
        return sorted(step for step in known & checkpoints(run).keys() if step <= run.committed())

    def strike(run):
        generation = run.generation()
        run.wait("two checkpoints can be used", lambda: len(usable(run)) >= 2)
        moment = groups.crash_machine(run)
        newest = usable(run)[-1]
        # One that the ledger may cover by now, unseen, is damaged too.
        for step, folder in checkpoints(run).items():
            if step >= newest:
                damage(folder, lab.random)
        warned = len(run.watcher.warnings("RESUME_UNUSABLE"))
        run.coordinator.start()
        run.recovered(moment, generation)
        again = next(c for c in run.watcher.commits() if c.generation > generation)
        assert again.first < newest, f"it went on from step {again.first}, but that of step {newest} is damaged"
        assert len(run.watcher.warnings("RESUME_UNUSABLE")) > warned, "nothing told of the damage"

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike, checkpoint_steps=CHECKPOINT_STEPS)


def checkpoint_bytes(_, row, __):
    """The test of the worker's that cuts a checkpoint at every 4 KiB and flips 10,000 of its bits."""
    program = harness.BIN / "worker_checkpoint_test"
    if not program.exists():
        row.not_run = f"{program} is not built"
        return
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=600)
    # "bit flips: 10000, found: ..., harmless: ..."; what is harmless loads as the same state.
    counts = [line for line in done.stdout.splitlines() if line.startswith(("truncations:", "bit flips:"))]
    row.count = sum(int(line.split(":")[1].split(",")[0]) for line in counts)
    row.jobs = 1
    if done.returncode == 0:
        row.ended_right = row.digest_equal = 1
    else:
        row.problems.append(done.stdout[-2000:])
    row.notes += counts
