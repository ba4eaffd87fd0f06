# SPDX-License-Identifier: Apache-2.0
"""What safety costs while nothing happens: waiting for leases, and saving checkpoints.

Runs real jobs against the programs in LOCKSTEP_BIN_DIR and prints medians. A machine that is shared changes its speed
by more than what is measured here within seconds, so a save is compared with the time right before and after it.
Usage: LOCKSTEP_BIN_DIR=build/cpu-release/bin LOCKSTEP_SOURCE_DIR=. bench/recovery.py [ROUNDS]
"""

import os
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(os.environ["LOCKSTEP_SOURCE_DIR"]) / "tests/e2e"))
import harness  # noqa: E402

SMALL = [{"flatten": {}}, {"dense": {"units": 16, "activation": "relu"}},
         {"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 10}}]
LARGE = [{"flatten": {}}, {"dense": {"units": 512, "activation": "relu"}},
         {"dense": {"units": 512, "activation": "relu"}}, {"dense": {"units": 10}}]
BATCH, INTERVAL = 128, 300


def ranges(events):
    """The committed ranges of a job but the first, which has cold caches."""
    return [e["stepsCommitted"] for e in events if "stepsCommitted" in e][1:]


def lease_share(steps):
    count = [int(s["endStep"]) - int(s.get("firstStep", 0)) for s in steps]
    lease = sum(n * float(s["phases"].get("leaseSeconds", 0)) for n, s in zip(count, steps))
    total = sum(n * sum(float(value) for value in s["phases"].values()) for n, s in zip(count, steps))
    return lease / total


def step_seconds(commit):
    return BATCH / float(commit["samplesPerSecond"])


def save_ratios(events, offset):
    """For each place `offset` steps behind a checkpoint: the step time of the range in which it lies, by that of the
    ranges two before and two after."""
    steps = ranges(events)
    ratios = []
    for event in events:
        at = int(event.get("checkpointSaved", {}).get("step", 0)) + offset
        inside = [i for i, s in enumerate(steps) if int(s.get("firstStep", 0)) <= at < int(s["endStep"])]
        if at == offset or event["checkpointSaved"].get("final") or not inside:
            continue
        around = [steps[i] for i in (inside[0] - 2, inside[0] + 2) if 0 <= i < len(steps)]
        ratios.append(step_seconds(steps[inside[0]]) / statistics.mean(step_seconds(s) for s in around))
    return ratios


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        root = pathlib.Path(folder)
        harness.synthetic_data(root, train=60_000, test=500)
        shares, during, elsewhere = [], [], []
        with harness.Coordinator([root]) as coordinator:
            for number in range(rounds):
                spec = harness.job(f"lease-{number}", "synthetic-digits", SMALL, epochs=2, workers=2)
                shares.append(lease_share(ranges(coordinator.events(coordinator.train(spec)["jobId"]))))
                spec = harness.job(f"save-{number}", "synthetic-digits", LARGE, batch=BATCH, epochs=8, workers=2)
                spec["training"]["checkpoint_interval_steps"] = INTERVAL
                events = coordinator.events(coordinator.train(spec)["jobId"])
                during += save_ratios(events, 0)
                # The same measure where nothing is saved tells what it can tell.
                elsewhere += save_ratios(events, INTERVAL // 2)
        print(f"time waited for leases, 784-16-16-10, batch 32, 2 workers: median {statistics.median(shares):.4%} of "
              f"the step (of {rounds} runs; greatest {max(shares):.4%})")
        print(f"step time while a checkpoint of 8 MB is written / before and after: median "
              f"{statistics.median(during):.3f} (of {len(during)} saves); between saves, where it should be 1: "
              f"{statistics.median(elsewhere):.3f} (of {len(elsewhere)})")


if __name__ == "__main__":
    main()
