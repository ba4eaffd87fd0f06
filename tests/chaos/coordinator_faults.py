# SPDX-License-Identifier: Apache-2.0
"""Faults of the coordinator: it dies, it is away, its clock jumps, its clients do not read."""

import os
import pathlib
import time

import processes
from watcher import StalledWatcher

# That a watcher does not read and others do.
EVENTS = 30
FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1"


def _restart(run, away_seconds=0.0):
    """kill -9 and a new start; the moment of the kill."""
    run.coordinator.process.kill()
    moment = time.time()
    run.coordinator.process.wait()
    run.watcher.pause(away_seconds)
    run.coordinator.start()
    return moment


def kill_coordinator(lab, row, count):
    """Training goes on meanwhile, and the same group is taken up again."""
    def strike(run):
        generation = run.generation()
        moment = _restart(run)
        run.recovered(moment)
        run.kept_generation(generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)


def outage(lab, row, count, away_seconds):
    """The coordinator is away; what was trained meanwhile is committed when it is back."""
    shares = []

    def strike(run):
        generation = run.generation()
        commits = run.wait("the pace is known", lambda: found if len(found := [
            c for c in run.watcher.commits() if c.generation == generation]) >= 10 else None)
        pace = (commits[-1].end - commits[0].end) / max(1e-9, commits[-1].time - commits[0].time)
        moment = _restart(run, away_seconds)
        back = time.time()
        before, _ = run.recovered(moment)
        # What was trained meanwhile comes at once.
        later = run.wait("the spool is stored", lambda: next(
            (i for i, c in enumerate(run.watcher.commits()) if c.time > back + 0.5), None))
        trained = run.watcher.commits()[later - 1].end - before[-1].end
        shares.append(trained / away_seconds / pace)
        run.kept_generation(generation)
        assert shares[-1] > 0.4, f"{trained / away_seconds:.0f} steps/s during the outage, {pace:.0f} before"

    with lab.coordinator() as coordinator:
        # Time to know the pace, and enough after it to see that it goes on.
        lab.strike(row, coordinator, count, strike, lasts=away_seconds + 4)
    if shares:
        row.notes.append(f"away for {away_seconds:g} s; speed meanwhile, of that before: at least {min(shares):.0%}")


def jump_clock(lab, row, count):
    """Wall-clock jumps of up to a day, both ways; nothing is started again, no event is lost."""
    library = pathlib.Path(FAKETIME.format(os.uname().machine))
    if not library.exists():
        row.not_run = f"{library} is missing (Debian package faketime)"
        return
    offset = lab.root / "clock-offset"

    def set_offset(seconds):
        # Renamed onto it, so that no half of it is ever read.
        fresh = lab.root / "clock-offset.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(offset)

    set_offset(0)
    environment = os.environ | {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset),
                                "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
                                "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    seen = []

    def strike(run):
        generation = run.generation()
        jump = lab.random.choice([-86_400, -3_600, -60, -5, 5, 60, 3_600, 86_400])
        set_offset(jump)
        struck = len(run.watcher.commits())
        run.wait("five more commits", lambda: len(run.watcher.commits()) >= struck + 5)
        commit = run.watcher.commits()[-1]
        seen.append(abs(commit.time - commit.arrival - jump) < 3.0)
        run.kept_generation(generation)

    with lab.coordinator(environment=environment) as coordinator:
        lab.strike(row, coordinator, count, strike, lasts=2)
        set_offset(0)
        # Killed, it would leave the library's shared memory behind.
        coordinator.stop()
    row.notes.append(f"jumps between -1 day and +1 day; {sum(seen)} of {len(seen)} seen in the events' times")
    if not all(seen):
        row.problems.append("a jump did not reach the coordinator, so it proves nothing")


def slow_watcher(lab, row, count, watchers=20):
    """Clients that do not read: the coordinator's memory stays bounded and everyone else is served."""
    grown = []

    def strike(run):
        before = processes.resident_bytes(run.coordinator.process.pid)
        stalled = [StalledWatcher(run.coordinator, run.id) for _ in range(watchers)]
        generation, struck = run.generation(), len(run.watcher.events)
        try:
            run.wait("events go on to the one that reads", lambda: len(run.watcher.events) >= struck + EVENTS)
            grown.append(processes.resident_bytes(run.coordinator.process.pid) - before)
            assert stalled[0].read(struck + EVENTS) == list(range(1, struck + EVENTS + 1)), "events are missing for a slow watcher"
        finally:
            for watcher in stalled:
                watcher.stop()
        lag = max(c.arrival - c.time for c in run.watcher.commits()[-10:])
        assert lag < 2.0, f"the watcher that reads is {lag:.1f} s late"
        assert grown[-1] < 64 << 20, f"the coordinator grew by {grown[-1] >> 20} MiB"
        run.kept_generation(generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike, lasts=6)
    if grown:
        row.notes.append(f"{watchers} watchers that do not read: the coordinator grew by at most "
                         f"{max(grown) / (1 << 20):.1f} MiB")
