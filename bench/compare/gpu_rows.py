# SPDX-License-Identifier: Apache-2.0
"""The work that is compared on GPUs, and how each side builds it."""

import dataclasses
import json
import pathlib
import subprocess

from rows import ADAM, LENET, MOMENTUM, SGD, mlp

RESNET = json.loads(pathlib.Path(__file__).with_name("resnet18.json").read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Data:
    """A set that is drawn: the speed does not depend on what it shows."""
    # As in a job file.
    dataset: dict
    samples: int
    shape: tuple
    classes: int
    # Steps between checkpoints; 0: one each epoch, which few samples would make very short ones.
    checkpoint_interval: int = 0


DIGITS = Data({"idx": {"path": "synthetic-digits"}}, 60_000, (28, 28), 10)
# Few, so that they are soon drawn: eight batches.
PHOTOS = Data(RESNET["dataset"], 2048, (3, 224, 224), 1000,
              RESNET["training"]["checkpoint_interval_steps"])


@dataclasses.dataclass(frozen=True)
class GpuRow:
    name: str
    what: str
    # As in a job file; every side builds this list.
    layers: tuple
    optimizer: dict
    batch: int
    precisions: tuple
    data: Data = DIGITS
    # PyTorch keeps images so; Lockstep's device decides by itself.
    channels_last: bool = False


ROWS = (
    GpuRow("a", "784-16-16-10, SGD, batch 32", mlp(16, 16), SGD, 32, ("fp32",)),
    GpuRow("b", "784-128-10, SGD, batch 32", mlp(128), SGD, 32, ("fp32",)),
    GpuRow("wide", "784-4096-4096-4096-10, momentum, batch 4096", mlp(4096, 4096, 4096), MOMENTUM, 4096,
           ("tf32", "bf16")),
    GpuRow("widest", "784-8192-8192-8192-8192-10, SGD, batch 8192", mlp(8192, 8192, 8192, 8192), SGD, 8192,
           ("bf16",)),
    GpuRow("adam", "784-8192-8192-8192-10, Adam, batch 4096", mlp(8192, 8192, 8192), ADAM, 4096, ("bf16",)),
    GpuRow("lenet", "LeNet-5, Adam, batch 256", LENET, ADAM, 256, ("fp32", "tf32")),
    GpuRow("resnet", "ResNet-18 on 224x224, momentum, batch 256", tuple(RESNET["model"]["layers"]), RESNET["optimizer"],
           RESNET["training"]["batch_size"], ("bf16",), PHOTOS, channels_last=True),
)

PRECISIONS = {"fp32": "PRECISION_FLOAT32", "tf32": "PRECISION_TF32", "bf16": "PRECISION_MIXED_BFLOAT16",
              "fp16": "PRECISION_MIXED_FLOAT16"}


def job(row, precision, ranks):
    """The job file of a row. Its end is far away: who measures ends it."""
    return {
        "name": f"gpu-{row.name}",
        "dataset": row.data.dataset,
        "model": {"layers": list(row.layers)},
        "loss": {"sparse_categorical_crossentropy": {"from_logits": True}},
        "optimizer": row.optimizer,
        "training": {"batch_size": row.batch, "epochs": 100_000, "precision": PRECISIONS[precision],
                     "checkpoint_interval_steps": row.data.checkpoint_interval},
        "resources": {"workers": ranks, "device": "DEVICE_CUDA"},
        "seed": 1,
    }


def network(row):
    """The PyTorch model of a row."""
    # Not at the top: this file is read where there is no PyTorch too.
    import peer_torch
    return peer_torch.network(row.layers, row.data.shape)


def draw(data, root, lockstep):
    """The set's files under `root`, unless they are there."""
    if data is DIGITS:
        folder = root / "synthetic-digits"
        if not folder.is_dir():
            subprocess.run([lockstep, "data", "generate", "synthetic-digits", "--dir", folder, "--train",
                            str(data.samples)], check=True, stdout=subprocess.DEVNULL)
        return
    import numpy
    random = numpy.random.default_rng(1)
    (root / "images").mkdir(exist_ok=True)
    if not (root / "images/y.npy").exists():
        numpy.save(root / "images/x.npy", random.integers(0, 256, (data.samples, *data.shape), numpy.uint8))
        numpy.save(root / "images/y.npy", random.integers(0, data.classes, data.samples, numpy.int32))
