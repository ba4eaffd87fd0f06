# SPDX-License-Identifier: Apache-2.0
"""The sum of two ranks' gradients on one host: Lockstep's, MPI_Allreduce's, and gloo's as DDP calls it."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from sides import HERE, SideError

RANKS = 2
# The gradient of 784-16-16-10, and what larger networks have.
SIZES = (52 * 1024, 4 << 20, 64 << 20)
# Least ratio to MPI_Allreduce and to gloo.
GOALS = {"vs_mpi": 5, "vs_gloo": 10}


def _lockstep(lockstep):
    """Rows by size."""
    done = subprocess.run([lockstep.lockstep, "-o", "json", "bench", "allreduce", "--ranks", str(RANKS),
                           f"--max-bytes={max(SIZES)}"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SideError(f"lockstep bench allreduce: {done.stderr.strip()[-500:]}")
    return {row["bytes"]: row for row in json.loads(done.stdout)["rows"]}


def _gloo(python):
    """Microseconds by size: the median over the runs, each as long as its slowest process."""
    with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
        processes = [subprocess.Popen(
            [python, HERE / "peer_gloo.py", json.dumps({"rank": rank, "ranks": RANKS, "sizes": SIZES,
                                                        "rendezvous": str(pathlib.Path(folder, "rendezvous"))})],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            for rank in range(RANKS)]
        answers = [process.communicate(timeout=300) for process in processes]
    if any(process.returncode != 0 for process in processes):
        raise SideError(f"gloo: {answers[0][1].strip()[-500:]}")
    times = [json.loads(out) for out, _ in answers]
    return {size: statistics.median(map(max, zip(*(t[str(size)] for t in times)))) for size in SIZES}


def measure(lockstep, found, rounds):
    """Medians of the rounds; gloo's is that of the first PyTorch."""
    python = next((python for python, program, _ in found if program == "peer_torch.py"), None)
    ours, gloo = [], []
    for _ in range(rounds):
        ours.append(_lockstep(lockstep))
        if python:
            try:
                gloo.append(_gloo(python))
            except SideError as error:
                print(f"allreduce: {error}", file=sys.stderr)
                python = None
    result = []
    for size in SIZES:
        row = {"bytes": size}
        for key in ("canonical_us", "gathered_us", "fastest_us", "mpi_allreduce_us", "copy_us"):
            row[key] = statistics.median(one[size][key] for one in ours)
        row["vs_mpi"] = statistics.median(one[size]["mpi_allreduce_us"] / one[size]["canonical_us"] for one in ours)
        if gloo:
            row["gloo_us"] = statistics.median(one[size] for one in gloo)
            row["vs_gloo"] = statistics.median(theirs[size] / one[size]["canonical_us"]
                                               for one, theirs in zip(ours, gloo))
        result.append(row)
    return result
