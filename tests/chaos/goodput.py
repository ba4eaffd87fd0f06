# SPDX-License-Identifier: Apache-2.0
"""How much of the time is of use when ranks are killed again and again."""

import groups
import processes

JOB_PERIODS = 3


def goodput(lab, row, count, period):
    """A rank is killed every `period` seconds. Lost is what lies between the last commit before a kill and the first
    new one after it: by the job's own clock, since the speed of a machine changes more than this."""
    lost = elapsed = 0.0
    with lab.coordinator() as coordinator:
        for _ in range(count):
            kills = []
            with lab.job(row, coordinator, seconds=JOB_PERIODS * period, workers=2) as run:
                run.wait_for_room(lab.random.uniform(0, 0.5 * period))
                while True:
                    moment, generation = groups.struck(run, processes.WORKER)
                    row.count += 1
                    run.recovered(moment, generation)
                    kills.append((moment, row.recovery[-1]))
                    if not run.wait_for_room(period - row.recovery[-1]):
                        break
            times = [commit.time for commit in run.watcher.commits()]
            elapsed += times[-1] - times[0]
            for moment, recovery in kills:
                lost += moment + recovery - max(time for time in times if time <= moment)
            if row.problems:
                return
    row.notes.append(f"one kill every {period} s: {1 - lost / elapsed:.1%} of the time is of use "
                     f"({lost:.2f} s of {elapsed:.0f} s lost in {row.count} kills)")
