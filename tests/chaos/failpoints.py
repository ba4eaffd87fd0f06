# SPDX-License-Identifier: Apache-2.0
"""Processes that kill themselves at the worst places, and a flipped bit."""

import re
import time

import groups
import processes
from lab import DIGEST_STEPS, STEPS_PER_EPOCH

START = ["worker.start", "data.read"]
STEP = ["step.forward", "step.allreduce", "step.before_apply", "step.after_apply"]
CHECKPOINT = ["checkpoint.begin", "checkpoint.parameters", "checkpoint.optimizer", "checkpoint.manifest",
              "checkpoint.renamed"]
STORE = ["store.begin", "store.changes", "store.commit", "store.committed"]
LAUNCH = ["coordinator.launch", "coordinator.launched"]


def _lines(random, workers):
    """Each place once, at a random visit to it by a random rank, and late enough that a step is committed before:
    four groups without one would be the end of the job."""
    rank = lambda: f" rank={random.randrange(workers)}"
    lines = [f"{name} kill hit={random.randint(STEPS_PER_EPOCH + 50, 3 * STEPS_PER_EPOCH)}{rank()}"
             for name in STEP]
    lines += [f"commit.before kill hit={random.randint(3, 6)}{rank()}"]
    # Only rank 0 comes by there.
    lines += ["commit.after kill hit=3"]
    lines += [f"{name} kill hit=3" for name in CHECKPOINT]
    lines += [f"{name} kill hit={random.randint(2, 40)}" for name in STORE]
    # The first launch is part of the submit, whose answer is waited for.
    return lines + [f"{name} kill hit=2" for name in LAUNCH]


def _later_lines(random, workers):
    """What kills a group before its first step."""
    return [f"{name} kill rank={random.randrange(workers)}" for name in START]


class _Armed:
    """A file of failpoints, and which of them have acted."""

    def __init__(self, path, lines):
        self.path, self.lines = path, lines
        path.write_text("\n".join(lines) + "\n")

    def add(self, line):
        self.lines.append(line)
        with open(self.path, "a", encoding="ascii") as file:
            file.write(line + "\n")

    def waiting(self):
        marks = self.path.with_name(self.path.name + ".fired")
        fired = {mark.name for mark in marks.iterdir()} if marks.exists() else set()
        return [line for number, line in enumerate(self.lines, 1) if str(number) not in fired]


def _start_again(coordinator):
    coordinator.process.wait()
    try:
        coordinator.start()
    except AssertionError:
        # Armed to die there, once.
        coordinator.process.wait()
        coordinator.start()


def failpoints(lab, row, count):
    """All places of all programs, `count` times over."""
    for number in range(count):
        workers = lab.random.choice(lab.workers)
        armed = _Armed(lab.root / f"failpoints-{number}", _lines(lab.random, workers))
        with lab.coordinator(options=["--failpoints", armed.path]) as coordinator:
            with lab.job(row, coordinator, workers=workers, seconds=max(20, lab.seconds), checkpoint_steps=100) as run:
                # Its first start is waited for, so that this one is armed for a later one.
                armed.add("coordinator.start kill")
                _until_all_acted(run, armed, _later_lines(lab.random, workers))
                row.count += len(armed.lines)
        if row.problems:
            return


def _until_all_acted(run, armed, later):
    committed, met = 0, 0
    while (waiting := armed.waiting()) or later:
        assert not run.watcher.ended, f"the job ended and never came to {waiting + later}"
        if run.coordinator.process.poll() is not None:
            _start_again(run.coordinator)
        starting = [line for line in waiting if line.split(".")[0] in ("worker", "data")]
        if run.committed() > committed and not starting and later:
            committed = run.committed()
            armed.add(later.pop(0))
        elif starting and starting == waiting and run.committed() > met:
            # No other place is left that brings a new group.
            met = run.committed()
            groups.struck(run, processes.WORKER)
        run.watcher.pause(0.02)
    # The last one may have hit the coordinator.
    acted = time.time()
    while not run.watcher.ended and not any(c.arrival > acted for c in run.watcher.commits()):
        if run.coordinator.process.poll() is not None:
            _start_again(run.coordinator)
        run.watcher.pause(0.02)


def memory_flip(lab, row, count):
    """One bit of one rank's parameters flips: that rank is named, and the job still ends with the right bits."""
    for number in range(count):
        # Among two nobody can tell who is right.
        workers = lab.random.choice([3, 4])
        rank = lab.random.randrange(workers)
        armed = lab.root / f"flip-{number}"
        # Right before the parameters are compared: later updates may round a flipped last bit away.
        hit = DIGEST_STEPS * lab.random.randint(1, 4)
        armed.write_text(f"memory.flip error rank={rank} hit={hit}\n")
        with lab.coordinator(options=["--failpoints", armed]) as coordinator:
            with lab.job(row, coordinator, workers=workers, seconds=min(lab.seconds, 4)) as run:
                told = run.wait("the alarm", lambda: run.watcher.warnings("DIVERGENCE"))
                assert re.search(rf"rank {rank}\b", told[0]), f"rank {rank} was hit, and told is: {told[0]}"
                run.recovered(time.time(), measure=False)
                row.count += 1
        if row.problems:
            return
