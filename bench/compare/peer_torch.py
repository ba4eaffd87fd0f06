# SPDX-License-Identifier: Apache-2.0
"""Trains a row with PyTorch, as a user writes it; a process that compare.py keeps and asks for so many steps at a time.

The argument is a JSON object; each line on the standard input is one request, each line of output one answer.
"""

import json
import os
import sys
import time

import torch
import torch.distributed
from torch import nn

import datasets

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def module(kind, options, shape):
    """One layer, and the shape of its output."""
    if kind == "flatten":
        return [nn.Flatten()], (torch.Size(shape).numel(),)
    if kind == "reshape":
        return [Reshape(options["target_shape"])], tuple(options["target_shape"])
    if kind == "dropout":
        return [nn.Dropout(options["rate"])], shape
    if kind == "max_pooling2d":
        return [nn.MaxPool2d(2)], (shape[0], shape[1] // 2, shape[2] // 2)
    if kind == "dense":
        layer, shape = nn.Linear(shape[0], options["units"]), (options["units"],)
    elif kind == "conv2d":
        size, same = options["kernel_size"], options["padding"] == "SAME"
        layer = nn.Conv2d(shape[0], options["filters"], size, padding=size // 2 if same else 0)
        cut = 0 if same else size - 1
        shape = (options["filters"], shape[1] - cut, shape[2] - cut)
    else:
        raise ValueError(kind)
    activation = options.get("activation")
    return [layer, ACTIVATIONS[activation]()] if activation else [layer], shape


class Reshape(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(-1, *self.shape)


def network(layers, shape):
    modules = []
    for layer in layers:
        (kind, options), = layer.items()
        built, shape = module(kind, options, shape)
        modules += built
    return nn.Sequential(*modules)


def optimizer(spec, parameters):
    (kind, options), = spec.items()
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=options["learning_rate"])
    return torch.optim.SGD(parameters, lr=options["learning_rate"], momentum=options.get("momentum", 0))


class Training:
    def __init__(self, setup):
        self.rank, self.ranks = setup["rank"], setup["ranks"]
        if self.ranks > 1:
            # torchrun says in the environment where the others are.
            meeting = f"file://{setup['rendezvous']}" if "rendezvous" in setup else "env://"
            torch.distributed.init_process_group("gloo", init_method=meeting, rank=self.rank, world_size=self.ranks)
        samples, labels = datasets.load_training(setup["root"], setup["dataset"])
        self.x = torch.from_numpy(samples.copy()).float() / 255
        self.y = torch.from_numpy(labels)
        torch.manual_seed(1)
        self.model = network(setup["layers"], tuple(self.x.shape[1:]))
        if self.ranks > 1:
            self.model = nn.parallel.DistributedDataParallel(self.model)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = optimizer(setup["optimizer"], self.model.parameters())
        self.batch = setup["batch"] // self.ranks
        self.batches = self.epoch()

    def epoch(self):
        """Batches without end: this rank's share of each epoch's order."""
        draw = torch.Generator().manual_seed(1)
        while True:
            order = torch.randperm(len(self.x), generator=draw)[self.rank::self.ranks]
            for i in range(0, len(order) - self.batch + 1, self.batch):
                yield order[i:i + self.batch]

    def step(self, bf16):
        index = next(self.batches)
        x, y = self.x[index], self.y[index]
        self.optimizer.zero_grad()
        if bf16:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = self.loss(self.model(x), y)
        else:
            loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()

    def run(self, steps, threads, precision):
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for _ in range(steps):
            self.step(precision == "bf16")
        return time.perf_counter() - began


def blas():
    """The matrix library that was loaded: without one, Debian's falls back to the slow reference."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = {os.path.basename(line.split()[-1]) for line in maps}
    found = sorted(name for name in names if name.startswith(("libopenblas", "libblis", "libmkl", "libblas")))
    # libblas.so.3 is the reference, or only stands for one of the others.
    name = ([name for name in found if not name.startswith("libblas")] or found or ["its own BLAS"])[0]
    core = os.environ.get("OPENBLAS_CORETYPE")
    return f"{name} as {core}" if core and name.startswith("libopenblas") else name


def main():
    training = Training(json.loads(sys.argv[1]))
    print(json.dumps({"version": torch.__version__, "blas": blas()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"seconds": training.run(**request)}), flush=True)
    # Without this a peer that ends first makes the other one complain.
    os._exit(0)


if __name__ == "__main__":
    main()
