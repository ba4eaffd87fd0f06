# SPDX-License-Identifier: Apache-2.0
"""A real coordinator in a private folder, and the real command line against it."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import processes

BIN = pathlib.Path(os.environ["LOCKSTEP_BIN_DIR"])
SOURCE = pathlib.Path(os.environ["LOCKSTEP_SOURCE_DIR"])


def wait_until(what, condition, seconds=30.0):
    """Returns the first true value of condition(); fails after a deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def synthetic_data(root, train=2000, test=500):
    """IDX files of drawn digits under root/synthetic-digits."""
    subprocess.run(
        [BIN / "lockstep", "data", "generate", "synthetic-digits", "--dir", str(root / "synthetic-digits"),
         "--train", str(train), "--test", str(test)],
        check=True, stdout=subprocess.DEVNULL)


def real_data(name):
    """The folder with real data, or None where there is none."""
    root = os.environ.get("LOCKSTEP_DATA_DIR", "")
    return pathlib.Path(root) if root and (pathlib.Path(root) / name).exists() else None


def job(name, path, layers, *, loss=None, optimizer=None, batch=32, epochs=1, workers=2, shards=0, seed=1):
    return {
        "name": name,
        "dataset": {"idx": {"path": path}},
        "model": {"layers": layers},
        "loss": loss or {"sparse_categorical_crossentropy": {"from_logits": True}},
        "optimizer": optimizer or {"adam": {"learning_rate": 0.001}},
        "training": {"batch_size": batch, "epochs": epochs, "logical_shards": shards},
        "resources": {"workers": workers},
        "seed": seed,
    }


MLP = [{"flatten": {}}, {"dense": {"units": 128, "activation": "relu"}}, {"dropout": {"rate": 0.2}},
       {"dense": {"units": 10}}]


class Coordinator:
    def __init__(self, data_roots, state_dir=None, slots=4, environment=None, options=(),
                 listen="127.0.0.1:0"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-e2e-"))
        self.state_dir = state_dir or self.folder / "state"
        self.data_roots = data_roots
        self.slots = slots
        self.environment = environment
        self.options = list(options)
        # A later start serves at the address of the first one, as an installed coordinator does.
        self.grpc = listen
        self.process = None
        self.log = None
        self.start()

    def start(self):
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [BIN / "lockstepd", "--listen", self.grpc, "--http", "127.0.0.1:0", "--state-dir",
                   self.state_dir, "--ready-file", ready, "--slots", str(self.slots), *self.options]
        for root in self.data_roots:
            command += ["--data-root", root]
        if self.log is not None:
            self.log.close()
        self.log = open(self.folder / "coordinator.log", "ab")
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log, env=self.environment)
        wait_until("the coordinator is ready", lambda: ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "coordinator.log").read_text()
        addresses = json.loads(ready.read_text())
        self.grpc, self.http = addresses["grpc"], addresses["http"]

    def stop(self, seconds=10):
        """SIGTERM; returns how long it took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(timeout=seconds)
        self.log.close()
        return time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # Groups outlive their coordinator, and no later one will take these up.
        def shims():
            return processes.find(str(self.state_dir), processes.SHIM)
        for shim in shims():
            processes.kill(shim, signal.SIGUSR1)
        wait_until("every group is gone", lambda: not shims())
        self.log.close()
        if kind is None:
            shutil.rmtree(self.folder)
        else:
            print((self.folder / "coordinator.log").read_text()[-4000:])
            print("kept:", self.folder)

    def cli(self, *arguments, check=True, seconds=300):
        done = subprocess.run([BIN / "lockstep", "--server", self.grpc, *arguments], capture_output=True, text=True,
                              timeout=seconds)
        if check:
            assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def submit(self, spec):
        path = self.folder / "job.json"
        path.write_text(json.dumps(spec))
        return json.loads(self.cli("-o", "json", "submit", path).stdout)["job"]["jobId"]

    def show(self, job_id):
        return json.loads(self.cli("-o", "json", "show", job_id).stdout)["job"]

    def wait(self, job_id, states=("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"), seconds=300):
        def reached():
            current = self.show(job_id)
            return current if current["state"] in states else None
        return wait_until(f"{job_id} is one of {states}", reached, seconds)

    def train(self, spec, seconds=300):
        done = self.wait(self.submit(spec), seconds=seconds)
        assert done["state"] == "JOB_STATE_SUCCEEDED", done
        return done

    def events(self, job_id):
        lines = self.cli("-o", "json", "watch", job_id, check=False).stdout.splitlines()
        return [json.loads(line) for line in lines if line.strip()]


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def model_sha256(done):
    return sha256(pathlib.Path(done["outputDir"]) / "model.safetensors")
