# SPDX-License-Identifier: Apache-2.0
"""Memory stays flat however many steps a job has: `long_run_test.py [STEPS]`, 200,000 by default."""

import pathlib
import sys
import tempfile
import time

import harness
import processes
from harness import Coordinator, job, wait_until

STEPS = 200_000
SAMPLES = 40_000
BATCH = 8
# The lecture's network: steps of a few microseconds.
LAYERS = [{"flatten": {}}, {"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 16, "activation": "relu"}},
          {"dense": {"units": 10}}]
# Pages that are met for the first time late: a log's, an allocator's.
SLACK = 4 << 20


def committed(coordinator, job_id):
    return int(coordinator.show(job_id).get("progress", {}).get("step", 0))


def main(steps):
    with tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-") as folder:
        root = pathlib.Path(folder)
        harness.synthetic_data(root, train=SAMPLES, test=200)
        with Coordinator([root]) as coordinator:
            epochs = -(-steps // (SAMPLES // BATCH))
            total = epochs * (SAMPLES // BATCH)
            job_id = coordinator.submit(job("long", "synthetic-digits", LAYERS, optimizer={"sgd": {}}, batch=BATCH,
                                            epochs=epochs, workers=2))
            wait_until("a fifth is done", lambda: committed(coordinator, job_id) >= total // 5, 600)
            workers = [processes.ranks(job_id)[rank] for rank in (0, 1)]
            programs = {"rank 0": workers[0], "rank 1": workers[1], "coordinator": coordinator.process.pid}
            before = {name: processes.resident_bytes(pid) for name, pid in programs.items()}
            began, first = time.monotonic(), committed(coordinator, job_id)
            most = dict(before)
            last = first
            while (step := committed(coordinator, job_id)) < total * 9 // 10:
                last = step
                for name, pid in programs.items():
                    most[name] = max(most[name], processes.resident_bytes(pid))
                time.sleep(0.05)
            seconds = time.monotonic() - began
            done = coordinator.wait(job_id, seconds=600)
            assert done["state"] == "JOB_STATE_SUCCEEDED", done
            # Else what was measured says little.
            assert last - first > total // 3, f"memory was watched from step {first} to {last} of {total} only"
    print(f"{total} steps; {(last - first) / seconds:.0f} steps/s")
    for name, was in before.items():
        print(f"{name}: {was / (1 << 20):.1f} MiB after a fifth, at most {most[name] / (1 << 20):.1f} MiB later")
    grown = {name: most[name] - was for name, was in before.items() if most[name] - was > SLACK}
    assert not grown, f"memory grew, bytes: {grown}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
