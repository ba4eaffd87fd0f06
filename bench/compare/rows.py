# SPDX-License-Identifier: Apache-2.0
"""The work that is compared: one table of models, from which every side builds its own."""

import dataclasses

# Ranks and threads per rank.
SETUPS = ((1, 1), (1, 2), (2, 1))


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    # As in a job file; every side builds this list.
    layers: tuple
    optimizer: dict
    batch: int
    # "mnist" or "images" (3 x 32 x 32).
    data: str = "mnist"
    # Least ratio to PyTorch written with indices, by number of ranks and precision; absent: none is asked.
    goals: dict = dataclasses.field(default_factory=dict)
    # Seconds an epoch may take on two cores.
    epoch_goal: float = 0


def dense(units, activation=""):
    return {"dense": {"units": units} | ({"activation": activation} if activation else {})}


def mlp(*units):
    return ({"flatten": {}}, *(dense(n, "relu") for n in units), dense(10))


def conv(filters, kernel, padding="VALID"):
    return {"conv2d": {"filters": filters, "kernel_size": kernel, "padding": padding, "activation": "relu"}}


POOL = {"max_pooling2d": {}}
SGD = {"sgd": {"learning_rate": 0.01}}
MOMENTUM = {"sgd": {"learning_rate": 0.01, "momentum": 0.9}}
ADAM = {"adam": {"learning_rate": 0.001}}
LENET = ({"reshape": {"target_shape": [1, 28, 28]}}, conv(6, 5, "SAME"), POOL, conv(16, 5), POOL, {"flatten": {}},
         dense(120, "relu"), dense(84, "relu"), dense(10))
# Of examples/vgg-small-cifar10.yaml.
VGG = (conv(32, 3, "SAME"), conv(32, 3, "SAME"), POOL, conv(64, 3, "SAME"), conv(64, 3, "SAME"), POOL,
       {"flatten": {}}, dense(256, "relu"), dense(10))

ROWS = (
    Row("a", "784-16-16-10, SGD, batch 32", mlp(16, 16), SGD, 32, goals={(1, "fp32"): 10, (2, "fp32"): 25}),
    Row("a10", "784-16-16-10, SGD, batch 10", mlp(16, 16), SGD, 10, goals={(1, "fp32"): 35, (2, "fp32"): 60}),
    Row("b", "784-128-10, SGD, batch 128", mlp(128), SGD, 128,
        goals={(1, "fp32"): 1.7, (1, "bf16"): 3, (2, "fp32"): 4}),
    Row("c", "784-1024-1024-10, Adam, batch 256", mlp(1024, 1024), ADAM, 256,
        goals={(1, "fp32"): 1.3, (1, "bf16"): 2.2, (2, "fp32"): 1.45}),
    Row("d", "784-4096-4096-4096-10, momentum, batch 512", mlp(4096, 4096, 4096), MOMENTUM, 512,
        goals={(1, "fp32"): 1.14, (1, "bf16"): 2.1, (2, "fp32"): 1.15}),
    Row("e", "LeNet-5, Adam, batch 128", LENET, ADAM, 128, goals={(1, "fp32"): 3, (2, "fp32"): 3}),
    Row("f", "VGG on 3x32x32, momentum, batch 128", VGG, MOMENTUM, 128, data="images",
        goals={(1, "fp32"): 1.4, (1, "bf16"): 2.5, (2, "fp32"): 1.25}),
    Row("lecture", "784-128-dropout 0.2-10, Adam, batch 32",
        ({"flatten": {}}, dense(128, "relu"), {"dropout": {"rate": 0.2}}, dense(10)), ADAM, 32, epoch_goal=0.5),
)


def job(row, dataset, ranks, threads, precision, epochs=100_000):
    """The job file of a row. Its end is far away: who measures ends it."""
    spec = {
        "name": f"compare-{row.name}",
        "dataset": dataset,
        "model": {"layers": list(row.layers)},
        "loss": {"sparse_categorical_crossentropy": {"from_logits": True}},
        "optimizer": row.optimizer,
        "training": {"batch_size": row.batch, "epochs": epochs},
        "resources": {"workers": ranks, "threads_per_worker": threads},
        "seed": 1,
    }
    if precision != "fp32":
        spec["training"]["precision"] = "PRECISION_MIXED_BFLOAT16"
    return spec


def fastest(spec):
    """The same job without the promise of the same bits."""
    return spec | {"training": spec["training"] | {"reduction": "REDUCTION_FASTEST"}}
