# SPDX-License-Identifier: Apache-2.0
"""How much of the time is of use when ranks are killed again and again."""

import groups
import processes

JOB_PERIODS = 3


def _seconds(run):
    """From the first to the last commit, so without the start of the first group."""
    commits = run.watcher.commits()
    return commits[-1].time - commits[0].time


def goodput(lab, row, count, period):
    """A rank is killed every `period` seconds. Jobs with and without kills take turns, as the machine's speed
    changes."""
    seconds = JOB_PERIODS * period
    calm, disturbed = [], []
    with lab.coordinator() as coordinator:
        for _ in range(count):
            with lab.job(row, coordinator, seconds=seconds, workers=2) as run:
                pass
            calm.append(_seconds(run))
            with lab.job(row, coordinator, seconds=seconds, workers=2) as run:
                run.wait_for_room(lab.random.uniform(0, 0.5 * period))
                while True:
                    moment, generation = groups.struck(run, processes.WORKER)
                    row.count += 1
                    run.recovered(moment, generation)
                    if not run.wait_for_room(period - row.recovery[-1]):
                        break
            disturbed.append(_seconds(run))
            if row.problems:
                return
    share = sum(calm) / sum(disturbed)
    row.notes.append(f"one kill every {period} s: {share:.1%} of the undisturbed speed "
                     f"({sum(calm):.0f} s undisturbed, {sum(disturbed):.0f} s with {row.count} kills)")
