# SPDX-License-Identifier: Apache-2.0
"""Does bad things to real processes, and says what came of it.

chaos.py --fault NAME[,NAME...]|all --count N --seed S [--workers 2..4] [--seconds S] [-o table|json]

Each fault is injected N times into jobs of about --seconds seconds; each job must end with the bits of an
undisturbed run, each step committed once, each event seen once, and nothing left behind. Exit status 1
where a row is wrong, 77 where none is but one could not be run, 0 where every row is right.
"""

import argparse
import functools
import json
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import coordinator_faults
import disk
import failpoints
import goodput
import groups
import network
import storm
import table
from lab import Lab

# Name, what does it, and how many times fewer it is done than --count asks, because it takes long.
FAULTS = {
    "kill-rank": (groups.kill_rank, 1),
    "kill-coordinator": (coordinator_faults.kill_coordinator, 1),
    "coordinator-outage": (functools.partial(coordinator_faults.outage, away_seconds=5), 4),
    "coordinator-outage-60s": (functools.partial(coordinator_faults.outage, away_seconds=60), 100),
    "kill-both": (groups.kill_both, 2),
    "kill-shim": (groups.kill_shim, 2),
    "kill-mpirun": (groups.kill_mpirun, 2),
    "kill-everything": (groups.kill_everything, 2),
    "stop-rank": (groups.stop_rank, 2),
    "hang-rank": (groups.hang_rank, 2),
    "term": (groups.terminate, 1),
    "scale": (groups.scale, 1),
    "storm": (storm.storm, 1),
    "clock-jumps": (coordinator_faults.jump_clock, 1),
    "slow-watcher": (coordinator_faults.slow_watcher, 4),
    "partition": (functools.partial(network.partition, shortest=0.2, longest=2.0), 1),
    "partition-long": (functools.partial(network.partition, shortest=8, longest=12), 5),
    "disk-full": (disk.disk_full, 2),
    "checkpoint-damage": (disk.damaged_checkpoint, 2),
    "checkpoint-bytes": (disk.checkpoint_bytes, 1),
    "failpoints": (failpoints.failpoints, 5),
    "memory-flip": (failpoints.memory_flip, 5),
    "goodput-60s": (functools.partial(goodput.goodput, period=60), 50),
    "goodput-15s": (functools.partial(goodput.goodput, period=15), 50),
}
NOT_RUN = 77
# Not part of "all": they take minutes.
LONG = {"coordinator-outage-60s", "partition-long", "goodput-60s", "goodput-15s",
        "checkpoint-bytes"}


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", default="all", help="all, long, or names with commas: " + " ".join(FAULTS))
    parser.add_argument("--count", type=int, default=10, help="how often each is injected; slow ones are, less often")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random (default: drawn, and printed)")
    parser.add_argument("--workers", default="2..4", help="N or A..B: drawn anew for each job")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one undisturbed job")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    first, _, last = options.workers.partition("..")
    options.workers = list(range(int(first), int(last or first) + 1))
    names = options.fault.split(",")
    if names == ["all"]:
        names = [name for name in FAULTS if name not in LONG]
    elif names == ["long"]:
        names = list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"unknown fault {unknown[0]}; there are: {' '.join(FAULTS)}")
    if not options.workers or options.count < 1:
        parser.error("nothing to do")
    options.names = names
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    return options


def say(options, text):
    print(text, file=sys.stderr if options.output == "json" else sys.stdout, flush=True)


def main(arguments):
    options = parse(arguments)
    say(options, f"seed {options.seed}")
    lab = Lab(options.seed, options.workers, options.seconds)
    if not lab.can_audit:
        say(options, "this build has no `lockstep audit`: ledgers are checked from the events alone")
    rows = []
    for name in options.names:
        fault, fewer = FAULTS[name]
        row = table.Row(name)
        rows.append(row)
        lab.draw(name)
        began = time.monotonic()
        try:
            fault(lab, row, max(1, options.count // fewer))
        except Exception as error:  # A row that breaks off is wrong; the others still tell something.
            row.problems.append(f"{type(error).__name__}: {error}")
        say(options, f"{name}: {row.verdict()}, {row.count} times in {time.monotonic() - began:.0f} s")
    lab.close()
    if options.output == "json":
        print(json.dumps({"seed": options.seed, "load": os.getloadavg(), "rows": [row.as_json() for row in rows]}))
    else:
        say(options, f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n{table.text(rows)}")
    verdicts = {row.verdict() for row in rows}
    return 1 if "WRONG" in verdicts else NOT_RUN if "NOT RUN" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
