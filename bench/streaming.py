# SPDX-License-Identifier: Apache-2.0
"""What it costs to leave a data set in its files: 2 GB of .npy shards with 256 MB of memory, against all in memory.

Runs real jobs against the programs in LOCKSTEP_BIN_DIR, in turns, since a machine that is shared changes its speed,
and prints each run's speed, the CPU time of the thread that computes the steps and of all others for a sample, and
the worker's peak of resident memory; then the ratio of the medians. Where other work takes the cores away, the CPU time
of the steps' thread says more than the clock. The set is made once in FOLDER (default: a temporary one) and is the same
each time.
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


def cpu_seconds(pid):
    """Of the thread that computes the steps, and of all others, also of those that have ended."""
    def spent(stat):
        fields = pathlib.Path(stat).read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    mine = spent(f"/proc/{pid}/task/{pid}/stat")
    return mine, spent(f"/proc/{pid}/stat") - mine


def run(coordinator, name, **dataset):
    """Samples per second over an epoch, CPU seconds of the steps' thread for a sample, and the peak in bytes."""
    spec = harness.job(name, "", MODEL, batch=BATCH, workers=1) | {"dataset": arrays.numpy_dataset(".", **dataset)}
    spec["optimizer"] = {"sgd": {"learning_rate": 0.01}}
    job_id = coordinator.submit(spec)
    peak, seen = 0, []
    while "endTime" not in (job := coordinator.show(job_id)):
        step = int(job["progress"].get("step", 0))
        for pid in processes.ranks(job_id).values():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                if step > 0:
                    seen.append((step * BATCH, *cpu_seconds(pid)))
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
    mine, others = ((seen[-1][i] - seen[0][i]) / (seen[-1][0] - seen[0][0]) for i in (1, 2))
    print(f"{name:8} {samples / seconds:8.0f} samples/s  {waited / seconds:6.2%} waiting for data  CPU for a sample: "
          f"step {1e6 * mine:5.1f} us, others {1e6 * others:5.1f} us  peak {peak / (1 << 20):5.0f} MiB", flush=True)
    return samples / seconds, peak, mine


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
        cpu = statistics.median(h[2] for h in held) / statistics.median(r[2] for r in read)
        print(f"from files: {ratio:.3f} of the speed in memory (asked: at least 0.90), {cpu:.3f} by CPU time, "
              f"peak {peak / (1 << 20):.0f} MiB of {LIMIT >> 20}")


if __name__ == "__main__":
    main()
