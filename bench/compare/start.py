# SPDX-License-Identifier: Apache-2.0
"""Launch to the end of the first step, with two processes on MNIST: `lockstep run` against torchrun."""

import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from rows import ROWS, job
from sides import HERE, SideError, end_run

ROW = next(row for row in ROWS if row.name == "lecture")


def _lockstep(lockstep, root, dataset):
    with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
        path = pathlib.Path(folder, "job.json")
        path.write_text(json.dumps(job(ROW, dataset, 2, 1, "fp32")))
        began = time.time()
        run = subprocess.Popen([lockstep.lockstep, "-o", "json", "run", path, "--out", pathlib.Path(folder, "out")],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"LOCKSTEP_DATA_DIR": str(root)})
        first = None
        try:
            for line in run.stdout:
                commit = json.loads(line).get("stepsCommitted")
                if commit:
                    # The group says so itself, since a range is committed only some time after its first step.
                    done = commit["start"]["firstStepDone"].rstrip("Z")[:26] + "+00:00"
                    first = datetime.datetime.fromisoformat(done).timestamp() - began
                    break
        finally:
            errors = end_run(run)
    if first is None:
        raise SideError(f"lockstep run: {errors.strip()[-500:]}")
    return first


def _torchrun(python, name, root, dataset):
    with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
        setup = {"layers": ROW.layers, "optimizer": ROW.optimizer, "batch": ROW.batch, "root": str(root),
                 "dataset": dataset, "ranks": 2, "stamps": folder}
        command = [python, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d",
                   "--rdzv_endpoint=127.0.0.1:0"]
        if name.startswith("PyTorch 1."):
            # Under Python 3.11 it cannot read its own default of these.
            command += ["--redirects=0:1,1:1", "--tee=0:1,1:1", f"--log_dir={folder}/logs"]
        began = time.time()
        done = subprocess.run([*command, HERE / "first_step.py", json.dumps(setup)], capture_output=True, text=True,
                              timeout=120)
        stamps = [float(path.read_text()) for path in pathlib.Path(folder).glob("first-step-*")]
    if len(stamps) != 2:
        raise SideError(f"torchrun: {done.stderr.strip()[-500:]}")
    return max(stamps) - began


def measure(lockstep, found, root, dataset, rounds):
    """Medians in seconds."""
    ours, theirs = [], {}
    for _ in range(rounds):
        ours.append(_lockstep(lockstep, root, dataset))
        for python, program, name in found:
            if program != "peer_torch.py":
                continue
            try:
                theirs.setdefault(name, []).append(_torchrun(python, name, root, dataset))
            except SideError as error:
                print(f"start: {name} is left out: {error}", file=sys.stderr)
    return {"lockstep": statistics.median(ours), "rounds": ours,
            "peers": {name: statistics.median(seconds) for name, seconds in theirs.items()}}
