# SPDX-License-Identifier: Apache-2.0
"""A client made from the protos alone, with its coordinator and a small data set."""
import importlib
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import grpc
from harness import SOURCE, Coordinator


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
    """A coordinator with two slots, and Python stubs for it in `training`."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-")
        self.folder = pathlib.Path(self._folder.name)
        write_digits(self.folder / "data/digits")
        self._make_stubs()
        self.coordinator = Coordinator([self.folder / "data"], slots=2)
        self.channel = grpc.insecure_channel(self.coordinator.grpc)
        self.training = self.service.TrainingServiceStub(self.channel)

    def _make_stubs(self):
        """Python stubs from the protos alone, with the distribution's compiler."""
        out = self.folder / "stubs"
        out.mkdir()
        protos = sorted(str(p.relative_to(SOURCE / "proto")) for p in (SOURCE / "proto").rglob("*.proto"))
        subprocess.run(["protoc", f"-I{SOURCE / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
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
        self.channel.close()
        self.coordinator.stop(seconds=30)
        self._folder.cleanup()
