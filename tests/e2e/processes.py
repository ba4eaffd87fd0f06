# SPDX-License-Identifier: Apache-2.0
"""The processes of a job and of a coordinator, found in /proc, and what they leave behind."""

import os
import pathlib
import shutil
import signal

WORKER, SHIM, MPIRUN = "lockstep-worker", "lockstep-shim", "mpirun"


def _read(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _program(pid):
    """The program's name, empty for a zombie and for what is gone."""
    stat = _read(pid, "stat")
    if not stat:
        return ""
    program, rest = stat[stat.index("(") + 1:].rsplit(")", 1)
    return "" if rest.split()[0] == "Z" else program


def find(text, *programs):
    """Pids of live processes with `text` in their command line, of these programs where some are given."""
    names = {name[:15] for name in programs}
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if text in _read(entry.name, "cmdline").split("\0") or (text.startswith("/") and
                                                               text in _read(entry.name, "cmdline")):
            program = _program(entry.name)
            if program and (not names or program in names):
                found.append(int(entry.name))
    return sorted(found)


def of_job(job_id, *programs):
    """The job's processes. Its shim and mpirun carry the worker's command line as their last arguments."""
    return find(f"--job={job_id}", *programs)


def ranks(job_id):
    """Pid by rank of the job's live workers."""
    by_rank = {}
    for pid in of_job(job_id, WORKER):
        for entry in _read(pid, "environ").split("\0"):
            if entry.startswith("OMPI_COMM_WORLD_RANK="):
                by_rank[int(entry.split("=")[1])] = pid
    return by_rank


def kill(pid, number=signal.SIGKILL):
    """False where it is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def resident_bytes(pid):
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def shared_memory(job_id):
    return [p for p in pathlib.Path("/dev/shm").iterdir() if p.name.startswith(f"lockstep-{job_id}-")]


def sweep(job_id):
    """Kills every process of the job and empties its shared memory, as a power cut does."""
    # What dies may have children that were not seen yet.
    while pids := of_job(job_id):
        for pid in pids:
            kill(pid)
    for path in shared_memory(job_id):
        shutil.rmtree(path, ignore_errors=True)


def mpi_folders():
    """Session folders of Open MPI outside the jobs' own scratch folders."""
    return {p.name for p in pathlib.Path("/tmp").iterdir() if p.name.startswith("ompi")}


def leftovers(job_ids, state_dir, folders_before):
    """What is left of these jobs once they have ended, in words."""
    left = []
    for job_id in job_ids:
        left += [f"process {pid} {_program(pid)}" for pid in of_job(job_id)]
        left += [f"/dev/shm/{p.name}" for p in shared_memory(job_id)]
    # The coordinator itself may still run.
    left += [f"process {pid} {_program(pid)}" for pid in find(str(state_dir), SHIM)]
    left += sorted(mpi_folders() - folders_before)
    return sorted(set(left))
