# SPDX-License-Identifier: Apache-2.0
"""The work that is compared on GPUs, and how each side builds it."""

import dataclasses

from rows import ADAM, LENET, MOMENTUM, SGD, mlp

CLASSES = 10
# Drawn, in MNIST's shape: the speed does not depend on what they show.
SAMPLES = 60_000
SHAPE = (28, 28)


@dataclasses.dataclass(frozen=True)
class GpuRow:
    name: str
    what: str
    # As in a job file; every side builds this list.
    layers: tuple
    optimizer: dict
    batch: int
    precisions: tuple


ROWS = (
    GpuRow("a", "784-16-16-10, SGD, batch 32", mlp(16, 16), SGD, 32, ("fp32",)),
    GpuRow("b", "784-128-10, SGD, batch 32", mlp(128), SGD, 32, ("fp32",)),
    GpuRow("wide", "784-4096-4096-4096-10, momentum, batch 4096", mlp(4096, 4096, 4096), MOMENTUM, 4096,
           ("tf32", "bf16")),
    GpuRow("widest", "784-8192-8192-8192-8192-10, SGD, batch 8192", mlp(8192, 8192, 8192, 8192), SGD, 8192,
           ("bf16",)),
    GpuRow("adam", "784-8192-8192-8192-10, Adam, batch 4096", mlp(8192, 8192, 8192), ADAM, 4096, ("bf16",)),
    GpuRow("lenet", "LeNet-5, Adam, batch 256", LENET, ADAM, 256, ("fp32", "tf32")),
)

PRECISIONS = {"fp32": "PRECISION_FLOAT32", "tf32": "PRECISION_TF32", "bf16": "PRECISION_MIXED_BFLOAT16",
              "fp16": "PRECISION_MIXED_FLOAT16"}


def job(row, precision, ranks):
    """The job file of a row. Its end is far away: who measures ends it."""
    return {
        "name": f"gpu-{row.name}",
        "dataset": {"idx": {"path": "synthetic-digits"}},
        "model": {"layers": list(row.layers)},
        "loss": {"sparse_categorical_crossentropy": {"from_logits": True}},
        "optimizer": row.optimizer,
        "training": {"batch_size": row.batch, "epochs": 100_000, "precision": PRECISIONS[precision]},
        "resources": {"workers": ranks, "device": "DEVICE_CUDA"},
        "seed": 1,
    }


def network(row):
    """The PyTorch model of a row."""
    # Not at the top: this file is read where there is no PyTorch too.
    import peer_torch
    return peer_torch.network(row.layers, SHAPE)
