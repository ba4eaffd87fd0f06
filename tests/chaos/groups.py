# SPDX-License-Identifier: Apache-2.0
"""Faults of worker groups: processes killed or stopped, and the whole machine."""

import signal
import time

import processes


def struck(run, *programs):
    """Kills one of these programs of the newest group; the moment and the group's generation."""
    generation = run.generation()
    pid = run.lab.random.choice(run.wait("the group runs", lambda: processes.of_job(run.id, *programs)))
    moment = time.time()
    assert processes.kill(pid), f"{programs}: process {pid} was gone"
    return moment, generation


def _kill(program):
    def fault(lab, row, count):
        def strike(run):
            moment, generation = struck(run, program)
            run.recovered(moment, generation)

        with lab.coordinator() as coordinator:
            lab.strike(row, coordinator, count, strike)
    return fault


kill_rank = _kill(processes.WORKER)
kill_shim = _kill(processes.SHIM)
kill_mpirun = _kill(processes.MPIRUN)


def kill_both(lab, row, count):
    """A rank and the coordinator at once."""
    def strike(run):
        run.coordinator.process.kill()
        moment, generation = struck(run, processes.WORKER)
        run.coordinator.process.wait()
        run.coordinator.start()
        run.recovered(moment, generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)


def crash_machine(run):
    """Every process at once, and shared memory empty, as after a power cut; the moment."""
    run.coordinator.process.kill()
    moment = time.time()
    run.coordinator.process.wait()
    processes.sweep(run.id)
    return moment


def kill_everything(lab, row, count):
    """Goes on from the newest checkpoint that is whole."""
    def strike(run):
        generation = run.generation()
        moment = crash_machine(run)
        run.coordinator.start()
        run.recovered(moment, generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike, checkpoint_steps=100)


def stop_rank(lab, row, count):
    """SIGSTOP, and SIGCONT before the watchdog's limit: nothing is started again."""
    def strike(run):
        generation = run.generation()
        pid = lab.random.choice(run.wait("the group runs", lambda: processes.of_job(run.id, processes.WORKER)))
        moment = time.time()
        processes.kill(pid, signal.SIGSTOP)
        try:
            run.watcher.pause(lab.random.uniform(0.1, 2.0))
        finally:
            processes.kill(pid, signal.SIGCONT)
        run.recovered(time.time(), measure=False)
        row.recovery.append(run.watcher.commits()[-1].time - moment)
        run.kept_generation(generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)


def hang_rank(lab, row, count):
    """SIGSTOP for good: the watchdog sees it within five seconds."""
    def strike(run):
        generation = run.generation()
        pid = lab.random.choice(run.wait("the group runs", lambda: processes.of_job(run.id, processes.WORKER)))
        moment = time.time()
        processes.kill(pid, signal.SIGSTOP)
        run.recovered(moment, generation)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)


def _gone_within(run, pid, seconds):
    began = time.monotonic()
    run.wait(f"process {pid} has ended", lambda: pid not in processes.of_job(run.id), seconds)
    return time.monotonic() - began


def terminate(lab, row, count):
    """SIGTERM to a worker, the shim and the coordinator in turn: saved and gone within five seconds, no step twice."""
    slowest = {"worker": 0.0, "shim": 0.0, "coordinator": 0.0}

    def strike(run):
        target = list(slowest)[row.count % len(slowest)]
        generation = run.generation()
        moment = time.time()
        if target == "coordinator":
            took = run.coordinator.stop(seconds=30)
            run.coordinator.start()
        else:
            program = processes.WORKER if target == "worker" else processes.SHIM
            pid = lab.random.choice(processes.of_job(run.id, program))
            processes.kill(pid, signal.SIGTERM)
            took = _gone_within(run, pid, 30)
        slowest[target] = max(slowest[target], took)
        assert took < 5.0, f"{target}: {took:.1f} s from SIGTERM to its end"
        run.recovered(moment, generation)
        assert row.redone[-1] == 0, f"{target}: {row.redone[-1]} steps were done again"

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)
    row.notes.append("from SIGTERM to the end, at most: " + ", ".join(f"{k} {v:.2f} s" for k, v in slowest.items()))


def scale(lab, row, count):
    """Another number of workers in mid-run. Recovery is the pause: last commit before to first new one after."""
    def strike(run):
        generation = run.generation()
        now = len(processes.of_job(run.id, processes.WORKER))
        workers = lab.random.choice([n for n in (1, 2, 3, 4) if n != now])
        run.coordinator.cli("scale", run.id, str(workers))
        before, first = run.recovered(time.time(), generation, measure=False)
        row.recovery.append(first.time - before[-1].time)
        run.wait(f"{workers} workers run", lambda: len(processes.ranks(run.id)) == workers, 10)
        assert row.redone[-1] == 0, f"{row.redone[-1]} steps were done again"

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)


