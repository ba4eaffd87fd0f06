# SPDX-License-Identifier: Apache-2.0
"""What safety costs while nothing happens: waiting for leases, and saving checkpoints.

Runs real jobs against the programs in LOCKSTEP_BIN_DIR, interleaved, and prints medians.
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
NEVER = 1_000_000_000


def ranges(coordinator, done):
    """The committed ranges of a job but the first, which has cold caches."""
    events = coordinator.events(done["jobId"])
    return [e["stepsCommitted"] for e in events if "stepsCommitted" in e][1:]


def lease_share(steps):
    count = [int(s["endStep"]) - int(s.get("firstStep", 0)) for s in steps]
    lease = sum(n * float(s["phases"].get("leaseSeconds", 0)) for n, s in zip(count, steps))
    total = sum(n * sum(float(value) for value in s["phases"].values()) for n, s in zip(count, steps))
    return lease / total


def step_seconds(steps, batch):
    return statistics.median(batch / float(s["samplesPerSecond"]) for s in steps)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        root = pathlib.Path(folder)
        harness.synthetic_data(root, train=20_000, test=500)
        shares, ratios, saves = [], [], []
        with harness.Coordinator([root]) as coordinator:
            for number in range(rounds):
                spec = harness.job(f"lease-{number}", "synthetic-digits", SMALL, epochs=6, workers=2)
                shares.append(lease_share(ranges(coordinator, coordinator.train(spec))))
                seconds = {}
                for interval in (NEVER, 100):
                    spec = harness.job(f"save-{number}", "synthetic-digits", LARGE, batch=128, epochs=6, workers=2)
                    spec["training"]["checkpoint_interval_steps"] = interval
                    done = coordinator.train(spec)
                    seconds[interval] = step_seconds(ranges(coordinator, done), 128)
                    if interval != NEVER:
                        saves.append(sum("checkpointSaved" in e for e in coordinator.events(done["jobId"])))
                ratios.append(seconds[100] / seconds[NEVER])
        print(f"time waited for leases, 784-16-16-10, batch 32, 2 workers: median {statistics.median(shares):.4%} of "
              f"the step (of {rounds} runs; greatest {max(shares):.4%})")
        print(f"step time with a checkpoint of 8 MB every 100 steps ({saves[0]} saved) / without: "
              f"median {statistics.median(ratios):.3f} (of {rounds} pairs: "
              f"{', '.join(f'{r:.3f}' for r in sorted(ratios))})")


if __name__ == "__main__":
    main()
