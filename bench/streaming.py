# SPDX-License-Identifier: Apache-2.0
"""What it costs to leave a data set in its files: 2 GB of .npy shards with 256 MB of memory, against all in memory.

Runs real jobs against the programs in LOCKSTEP_BIN_DIR, in turns, since a machine that is shared changes its speed,
and prints each run's speed, its worker's peak of resident memory, and the ratio of the medians. The set is made once
in FOLDER (default: a temporary one) and is the same each time.
Usage: LOCKSTEP_BIN_DIR=build/cpu-release/bin LOCKSTEP_SOURCE_DIR=. bench/streaming.py [ROUNDS] [FOLDER]
"""

import hashlib
import os
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(os.environ["LOCKSTEP_SOURCE_DIR"]) / "tests/e2e"))
import arrays  # noqa: E402
import harness  # noqa: E402
import processes  # noqa: E402

SHARDS, SAMPLES = 20, 35_000
PIXELS = 3 * 32 * 32
LIMIT = 256 << 20
BATCH = 128
MODEL = [{"flatten": {}}, {"dense": {"units": 128, "activation": "relu"}}, {"dense": {"units": 10}}]


def write_shards(root):
    """Noise as [samples, 3, 32, 32] bytes, 2.15 GB in all."""
    for i in range(SHARDS + 1):
        name, count = (f"train-{i:02}", SAMPLES) if i < SHARDS else ("test", 1000)
        if (root / f"{name}-y.npy").exists():
            continue
        values = hashlib.shake_128(str(i).encode()).digest(count * PIXELS)
        arrays.write_npy(root / f"{name}-x.npy", "|u1", [count, 3, 32, 32], values)
        arrays.write_npy(root / f"{name}-y.npy", "|u1", [count], bytes(pixel % 10 for pixel in values[::PIXELS]))


def run(coordinator, name, **dataset):
    """Samples per second over an epoch, share of the time that steps waited for data, and the peak in bytes."""
    spec = harness.job(name, "", MODEL, batch=BATCH, workers=1) | {"dataset": arrays.numpy_dataset(".", **dataset)}
    spec["optimizer"] = {"sgd": {"learning_rate": 0.01}}
    job_id = coordinator.submit(spec)
    peak = 0
    while "endTime" not in (job := coordinator.show(job_id)):
        for pid in processes.ranks(job_id).values():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            peak = max([peak] + [1024 * int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line])
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    # The first range has cold caches.
    ranges = [e["stepsCommitted"] for e in coordinator.events(job_id) if "stepsCommitted" in e][1:]
    samples = sum(int(r["samples"]) for r in ranges)
    seconds = sum(int(r["samples"]) / float(r["samplesPerSecond"]) for r in ranges)
    steps = [int(r["endStep"]) - int(r["firstStep"]) for r in ranges]
    waited = sum(n * float(r["phases"].get("dataSeconds", 0)) for n, r in zip(steps, ranges))
    print(f"{name:10} {samples / seconds:9.0f} samples/s   {waited / seconds:6.2%} waiting for data   "
          f"peak {peak / (1 << 20):6.0f} MiB", flush=True)
    return samples / seconds, peak


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as temporary:
        root = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        root.mkdir(exist_ok=True)
        write_shards(root)
        held, read = [], []
        with harness.Coordinator([root]) as coordinator:
            for i in range(rounds):
                held.append(run(coordinator, f"held-{i}"))
                read.append(run(coordinator, f"read-{i}", memory_limit_bytes=LIMIT))
        ratio = statistics.median(r[0] for r in read) / statistics.median(h[0] for h in held)
        peak = max(r[1] for r in read)
        print(f"from files: {ratio:.3f} of the speed in memory (asked: at least 0.90), "
              f"peak {peak / (1 << 20):.0f} MiB of {LIMIT >> 20}")


if __name__ == "__main__":
    main()
