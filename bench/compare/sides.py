# SPDX-License-Identifier: Apache-2.0
"""The sides of the comparison: each measures samples per second of one row."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Caches, the clock's speed and first epochs' page faults are over by then.
WARM_UP_SECONDS = 0.7


def end_run(run):
    """Cancels the job and waits until nothing of it is left; what the program said."""
    run.send_signal(signal.SIGINT)
    return run.communicate(timeout=120)[1]


class SideError(Exception):
    """A side cannot do this row; the message says why."""


class Lockstep:
    """Jobs through `lockstep run`: coordinator, mpirun and workers, measured by the job's own events."""

    def __init__(self, programs):
        self.lockstep = pathlib.Path(programs) / "lockstep"
        self.name = "Lockstep " + subprocess.run([self.lockstep, "version"], check=True, capture_output=True,
                                                 text=True).stdout.split()[1]

    def refuses(self, spec, root):
        """Why the job is refused, for example for a precision that this version does not know; empty: it is not."""
        with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
            path = pathlib.Path(folder, "job.json")
            path.write_text(json.dumps(spec))
            done = subprocess.run([self.lockstep, "summary", path], capture_output=True, text=True,
                                  env=os.environ | {"LOCKSTEP_DATA_DIR": str(root)})
            return "" if done.returncode == 0 else done.stderr.strip()

    def measure(self, spec, root, seconds):
        """Samples per second while training: the committed ranges after the warm-up, evaluation left out."""
        with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
            path = pathlib.Path(folder, "job.json")
            path.write_text(json.dumps(spec))
            run = subprocess.Popen([self.lockstep, "-o", "json", "run", path, "--out", pathlib.Path(folder, "out")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=os.environ | {"LOCKSTEP_DATA_DIR": str(root)})
            try:
                samples, spent = self._follow(run, seconds)
            finally:
                errors = end_run(run)
        if not spent:
            raise SideError(f"lockstep run: {errors.strip()[-500:]}")
        return samples / spent

    @staticmethod
    def _follow(run, seconds):
        samples, spent, warm = 0, 0.0, 0.0
        ranges = 0
        for line in run.stdout:
            commit = json.loads(line).get("stepsCommitted")
            if not commit:
                continue
            took = int(commit["samples"]) / commit["samplesPerSecond"]
            ranges += 1
            if ranges == 1 or warm < WARM_UP_SECONDS:
                warm += took
                continue
            samples, spent = samples + int(commit["samples"]), spent + took
            if spent >= seconds:
                break
        return samples, spent


@functools.cache
def openblas_environment(python):
    """An OpenBLAS older than the processor may take it for a Pentium 4, which costs four fifths of its speed: it is told
    which of the processors that it knows has the same instructions."""
    if "OPENBLAS_CORETYPE" in os.environ:
        return {}
    done = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True,
                          env=os.environ | {"OPENBLAS_VERBOSE": "2"})
    if "Core: Prescott" not in done.stdout + done.stderr:
        return {}
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    for flag, core in (("avx512vl", "SkylakeX"), ("avx2", "Haswell")):
        if flag in flags:
            return {"OPENBLAS_CORETYPE": core}
    return {}


class Peer:
    """One or more processes of another framework, which wait on their input between requests."""

    def __init__(self, python, program, row, root, dataset, ranks, threads):
        self.folder = tempfile.TemporaryDirectory(prefix="lockstep-compare-")
        self.batch, self.threads = row.batch, threads
        setup = {"layers": row.layers, "optimizer": row.optimizer, "batch": row.batch, "root": str(root),
                 "dataset": dataset, "ranks": ranks, "threads": threads,
                 "rendezvous": str(pathlib.Path(self.folder.name, "rendezvous"))}
        # What torchrun does where nothing is said; a lone process may use what it is then told to use.
        environment = os.environ | openblas_environment(python) | ({"OMP_NUM_THREADS": str(threads)} if ranks > 1 else {})
        self.processes = [
            subprocess.Popen([python, HERE / program, json.dumps(setup | {"rank": rank})], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            for rank in range(ranks)]
        try:
            self.blas = self._answers()[0]["blas"]
        except SideError:
            self.close()
            raise
        self.rates = {}

    def _answers(self):
        answers = []
        for process in self.processes:
            line = process.stdout.readline()
            if not line:
                raise SideError(f"{process.args[1].name}: {process.stderr.read().strip()[-500:]}")
            answers.append(json.loads(line))
        return answers

    def _run(self, steps, threads, precision):
        for process in self.processes:
            process.stdin.write(json.dumps({"steps": steps, "threads": threads, "precision": precision}) + "\n")
            process.stdin.flush()
        return max(answer["seconds"] for answer in self._answers())

    def measure(self, seconds, threads, precision="fp32"):
        key = threads, precision
        if key not in self.rates:
            steps, took = 1, 0.0
            while took < WARM_UP_SECONDS:
                took = self._run(steps, threads, precision)
                self.rates[key] = steps / took
                steps *= 4
        steps = max(2, round(self.rates[key] * seconds))
        took = self._run(steps, threads, precision)
        self.rates[key] = steps / took
        return steps * self.batch / took

    def close(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()
        self.folder.cleanup()


def has(python, package):
    """The package's version in that interpreter; empty: it has none."""
    done = subprocess.run([python, "-c", f"import {package}; print({package}.__version__)"], capture_output=True,
                          text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else ""

