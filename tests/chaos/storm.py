# SPDX-License-Identifier: Apache-2.0
"""One fault into the recovery from another."""

import collections
import signal
import time

import processes

# Groups that end in a row without a new step use up the restart budget.
FAULTS_AT_ONCE = 2


def _signal(program, number):
    def fault(run):
        pids = processes.of_job(run.id, program)
        # Between two groups there may be none.
        if pids:
            processes.kill(run.lab.random.choice(pids), number)
    return fault


def _restart(run):
    run.coordinator.process.kill()
    run.coordinator.process.wait()
    run.coordinator.start()


def _scale(run):
    workers = run.lab.random.randint(1, 4)
    run.coordinator.cli("scale", run.id, str(workers))


KINDS = {
    "kill rank": _signal(processes.WORKER, signal.SIGKILL),
    "kill shim": _signal(processes.SHIM, signal.SIGKILL),
    "kill mpirun": _signal(processes.MPIRUN, signal.SIGKILL),
    "terminate rank": _signal(processes.WORKER, signal.SIGTERM),
    "terminate shim": _signal(processes.SHIM, signal.SIGTERM),
    "kill coordinator": _restart,
    "scale": _scale,
}


def storm(lab, row, count):
    """Random faults, each into what the one before it set off. Recovery is from the last one on."""
    done = collections.Counter()

    def strike(run):
        names = [lab.random.choice(list(KINDS)) for _ in range(FAULTS_AT_ONCE)]
        moment = time.time()
        for name in names:
            moment = time.time()
            KINDS[name](run)
            done[name] += 1
            run.watcher.pause(lab.random.uniform(0, 0.5))
        run.recovered(moment)

    with lab.coordinator() as coordinator:
        lab.strike(row, coordinator, count, strike)
    row.notes.append(f"pairs of: {', '.join(f'{name} x{times}' for name, times in sorted(done.items()))}")
