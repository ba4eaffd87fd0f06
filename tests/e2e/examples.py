# SPDX-License-Identifier: Apache-2.0
"""The jobs of examples/ and the figure that each must reach."""

import dataclasses
import os
import pathlib

import harness


@dataclasses.dataclass
class Example:
    file: str
    # The folder in LOCKSTEP_DATA_DIR.
    data: str
    # In JobProgress.
    metric: str
    at_least: float
    overrides: tuple = ()


# Each takes at most 60 s on two cores.
SHORT = {
    "lenet5": Example("lenet5-mnist.yaml", "mnist", "testAccuracy", 0.98),
    "fashion_mlp": Example("fashion-mlp.yaml", "fashion-mnist", "testAccuracy", 0.88),
    "housing": Example("california-housing.yaml", "california-housing", "testRSquared", 0.75),
    "resnet8": Example("resnet8-cifar10.yaml", "cifar10-small", "testAccuracy", 0.50),
    "vgg_small": Example("vgg-small-cifar10.yaml", "cifar10-small", "testAccuracy", 0.50),
}
# Longer: bench/examples.py.
LONG = {
    "lenet5_10_epochs": Example("lenet5-mnist.yaml", "mnist", "testAccuracy", 0.99, ("training.epochs=10",)),
    "fashion_cnn": Example("fashion-cnn.yaml", "fashion-mnist", "testAccuracy", 0.91),
}


def train(example, seconds=1800):
    """The figure of the job's last evaluation."""
    root = pathlib.Path(os.environ["LOCKSTEP_DATA_DIR"])
    with harness.Coordinator([root]) as coordinator:
        sets = [f"--set={override}" for override in example.overrides]
        answer = coordinator.cli("-o", "json", "submit", harness.SOURCE / "examples" / example.file, *sets)
        done = coordinator.wait(harness.json.loads(answer.stdout)["job"]["jobId"], seconds=seconds)
        assert done["state"] == "JOB_STATE_SUCCEEDED", done
        return done["progress"][example.metric]
