# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a real coordinator, stubs made from the protos, a small data set."""
import importlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("LOCKSTEP_BIN_DIR", ROOT / "build/cpu-release/bin"))


def await_true(what, condition, seconds=60):
    """Polls condition until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for: {what}")
        time.sleep(0.05)


def write_digits(folder, train=512, test=128, side=8):
    """Ten noisy patterns as IDX files with MNIST's names."""
    folder.mkdir(parents=True)
    source = random.Random(1)
    patterns = [[source.randrange(256) for _ in range(side * side)] for _ in range(10)]
    for name, count in (("train", train), ("t10k", test)):
        labels = bytes(i % 10 for i in range(count))
        images = bytes(max(0, min(255, p + source.randrange(-40, 40))) for label in labels for p in patterns[label])
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, side, side) + images)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels)


class Service:
    """lockstepd on free ports with a state folder of its own, and a client's stubs for it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-")
        self.folder = Path(self._folder.name)
        write_digits(self.folder / "data/digits")
        self._make_stubs()
        self.log = self.folder / "lockstepd.log"
        ready = self.folder / "ready.json"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "lockstepd", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state-dir",
                 self.folder / "state", "--data-root", self.folder / "data", "--slots", "2", "--ready-file", ready],
                stdout=log, stderr=log)
        try:
            await_true("the coordinator's ready file", lambda: self._alive() and ready.exists() and ready.stat().st_size)
            self.address = json.loads(ready.read_text())
        except Exception:
            self.stop()
            raise
        self.channel = grpc.insecure_channel(self.address["grpc"])
        self.training = self.service.TrainingServiceStub(self.channel)

    def _alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"lockstepd ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return True

    def _make_stubs(self):
        """Python stubs from the protos alone, with the distribution's compiler."""
        out = self.folder / "stubs"
        out.mkdir()
        protos = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").rglob("*.proto"))
        subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                        "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", *protos], check=True)
        sys.path.insert(0, str(out))
        self.messages = importlib.import_module("lockstep.v1.training_service_pb2")
        self.service = importlib.import_module("lockstep.v1.training_service_pb2_grpc")
        self.job = importlib.import_module("lockstep.v1.job_pb2")

    def spec(self, name, epochs):
        """A job of two workers that needs well under a millisecond for a step."""
        spec = self.job.JobSpec(name=name, seed=1)
        spec.dataset.idx.path = "digits"
        spec.model.layers.add().flatten.SetInParent()
        spec.model.layers.add().dense.units = 10
        spec.loss.sparse_categorical_crossentropy.from_logits = True
        spec.optimizer.sgd.learning_rate = 0.05
        spec.training.batch_size, spec.training.epochs = 32, epochs
        spec.resources.workers = 2
        return spec

    def submit(self, spec, **options):
        return self.training.SubmitJob(self.messages.SubmitJobRequest(spec=spec, **options), timeout=10).job

    def get(self, job_id):
        return self.training.GetJob(self.messages.GetJobRequest(job_id=job_id), timeout=10).job

    def cancel(self, job_id, reason="the test is done"):
        return self.training.CancelJob(self.messages.CancelJobRequest(job_id=job_id, reason=reason), timeout=10).job

    def watch(self, job_id, after_sequence=0, seconds=90):
        request = self.messages.WatchJobRequest(job_id=job_id, after_sequence=after_sequence)
        for response in self.training.WatchJob(request, timeout=seconds):
            if response.HasField("event"):
                yield response.event

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.returncode != 0:
                print(self.log.read_text()[-4000:], file=sys.stderr)
            self._folder.cleanup()
