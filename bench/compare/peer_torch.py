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


def window(options, size):
    """Strides and zeros around the image, by PyTorch's names."""
    padding = options.get("padding", "VALID")
    zeros = {"VALID": 0, "SAME": size // 2, "EXPLICIT": options.get("explicit_padding", [0])[0]}[padding]
    return {"stride": options.get("strides", 1), "padding": zeros}


def through(shape, size, stride, padding):
    """The size of images behind a window."""
    return tuple((n + 2 * padding - size) // stride + 1 for n in shape[1:])


def module(kind, options, shape):
    """One layer, and the shape of its output."""
    if kind == "flatten":
        return [nn.Flatten()], (torch.Size(shape).numel(),)
    if kind == "reshape":
        return [Reshape(options["target_shape"])], tuple(options["target_shape"])
    if kind == "dropout":
        return [nn.Dropout(options["rate"])], shape
    if kind == "relu":
        return [nn.ReLU()], shape
    if kind == "batch_normalization":
        return [nn.BatchNorm2d(shape[0], eps=options["epsilon"], momentum=1 - options["momentum"])], shape
    if kind == "global_average_pooling2d":
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten()], shape[:1]
    if kind == "max_pooling2d":
        size = options.get("pool_size", 2)
        place = window({"strides": size} | options, size)
        return [nn.MaxPool2d(size, **place)], (shape[0], *through(shape, size, **place))
    if kind == "dense":
        layer, shape = nn.Linear(shape[0], options["units"]), (options["units"],)
    elif kind == "conv2d":
        size = options["kernel_size"]
        place = window(options, size)
        layer = nn.Conv2d(shape[0], options["filters"], size, bias=options.get("use_bias", True), **place)
        shape = (options["filters"], *through(shape, size, **place))
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


class Network(nn.Module):
    """Layers that name their inputs; where one does not, it takes what the layer before it puts out."""

    def __init__(self, layers, shape):
        super().__init__()
        self.modules_of, self.sources = nn.ModuleList(), []
        names, shapes = {}, []
        for i, layer in enumerate(layers):
            layer = dict(layer)
            name, inputs = layer.pop("name", None), layer.pop("inputs", None)
            (kind, options), = layer.items()
            sources = [names[n] for n in inputs] if inputs else [i - 1]
            taken = shapes[sources[0]] if sources[0] >= 0 else shape
            built, out = ([], taken) if kind == "add" else module(kind, options, taken)
            self.modules_of.append(nn.Sequential(*built))
            self.sources.append(sources)
            shapes.append(out)
            if name:
                names[name] = i

    def forward(self, x):
        outputs = []
        for built, sources in zip(self.modules_of, self.sources):
            taken = [outputs[i] if i >= 0 else x for i in sources]
            outputs.append(built(taken[0] if len(taken) == 1 else sum(taken[1:], taken[0])))
        return outputs[-1]


def network(layers, shape):
    if any("inputs" in layer for layer in layers):
        return Network(layers, shape)
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
