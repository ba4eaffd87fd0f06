#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes training.json beside this file: twenty losses of LeNet-5 and of a ResNet-8, for training_test.cc.

Needs Debian's python3-torch. Double precision; weights and images are draws (draws.py), so the file holds
the models and the losses alone.
"""

import json
import pathlib

import numpy
import torch
import torch.nn.functional as F

import draws

torch.set_default_dtype(torch.float64)

STEPS = 20
# Batches come again: a model that learns nothing shows.
BATCHES = 4
CLASSES = 10
# Streams of draws; training_test.cc has the same.
PARAMETERS, IMAGES, LABELS = 100, 1000, 2000
MOMENTUM = 0.9


class Model:
    """A network as text and as a function, whose parameters are drawn in the order they are asked for."""

    def __init__(self):
        self.layers = []
        self.parameters = []
        self.moving = 0

    def parameter(self, kind, *shape):
        count = 1
        for n in shape:
            count *= n
        values = draws.draws(PARAMETERS + len(self.parameters) + self.moving, count)
        if kind == "kernel":
            # Uniform, of a variance of 1 / (numbers that are summed).
            fan_in = shape[0] if len(shape) == 2 else count // shape[0]
            values = values * (3.0 / fan_in) ** 0.5
        else:
            values = values * 0.1 + (1.0 if kind == "gamma" else 0.0)
        values = torch.tensor(values.astype(numpy.float32).astype(numpy.float64)).reshape(shape)
        self.parameters.append(values.requires_grad_())
        return values

    def add(self, text):
        self.layers.append(f"layers {{ {text} }}")

    def text(self):
        return " ".join(self.layers)


def lenet5():
    m = Model()
    for filters, channels, pad in ((6, 1, "padding: PADDING_EXPLICIT explicit_padding: [2, 2, 2, 2] "), (16, 6, "")):
        m.add(f"conv2d {{ filters: {filters} kernel_size: 5 {pad}activation: 'tanh' }}")
        m.add("average_pooling2d {}" if pad else "max_pooling2d {}")
        m.parameter("kernel", filters, channels, 5, 5)
        m.parameter("bias", filters)
    m.add("flatten {}")
    for units, inputs in ((120, 400), (84, 120), (CLASSES, 84)):
        m.add(f"dense {{ units: {units} {'' if units == CLASSES else 'activation: ' + repr('relu') + ' '}}}")
        m.parameter("kernel", inputs, units)
        m.parameter("bias", units)
    p = m.parameters

    def run(x):
        x = F.avg_pool2d(torch.tanh(F.conv2d(x, p[0], p[1], padding=2)), 2)
        x = F.max_pool2d(torch.tanh(F.conv2d(x, p[2], p[3])), 2).flatten(1)
        x = F.relu(x @ p[4] + p[5])
        x = F.relu(x @ p[6] + p[7])
        return x @ p[8] + p[9]

    return m, run


class Block:
    """Convolution and batch normalisation."""

    def __init__(self, model, name, filters, channels, size, stride, source="", relu=True):
        self.size, self.stride, self.relu = size, stride, relu
        inputs = f" inputs: '{source}'" if source else ""
        model.add(f"conv2d {{ filters: {filters} kernel_size: {size} strides: {stride} padding: PADDING_SAME use_bias: false "
                  f"}}{inputs}")
        model.add(f"name: '{name}' batch_normalization {{ momentum: 0.9 epsilon: 1e-5 }}")
        if relu:
            model.add(f"name: '{name}_relu' relu {{}}")
        self.kernel = model.parameter("kernel", filters, channels, size, size)
        self.gamma, self.beta = model.parameter("gamma", filters), model.parameter("beta", filters)
        # The moving mean and variance have their numbers too.
        model.moving += 2

    def __call__(self, x):
        pad = max((-(-x.shape[2] // self.stride) - 1) * self.stride + self.size - x.shape[2], 0)
        before, behind = pad // 2, pad - pad // 2
        x = F.conv2d(F.pad(x, (before, behind, before, behind)), self.kernel, stride=self.stride)
        x = F.batch_norm(x, None, None, self.gamma, self.beta, True, 0.1, 1e-5)
        return F.relu(x) if self.relu else x


def resnet8():
    m = Model()
    stem = Block(m, "stem", 16, 3, 3, 1)
    source, channels, stages = "stem_relu", 16, []
    for i, filters in enumerate((16, 32, 64)):
        stride = 1 if i == 0 else 2
        first = Block(m, f"a{i}", filters, channels, 3, stride, source)
        second = Block(m, f"b{i}", filters, filters, 3, 1, relu=False)
        shortcut = None if i == 0 else Block(m, f"s{i}", filters, channels, 1, stride, source, relu=False)
        m.add(f"name: 'sum{i}' add {{}} inputs: ['b{i}', '{source if i == 0 else f's{i}'}']")
        m.add(f"name: 'out{i}' relu {{}}")
        stages.append((first, second, shortcut))
        source, channels = f"out{i}", filters
    m.add("global_average_pooling2d {}")
    m.add(f"dense {{ units: {CLASSES} }}")
    kernel, bias = m.parameter("kernel", 64, CLASSES), m.parameter("bias", CLASSES)

    def run(x):
        x = stem(x)
        for first, second, shortcut in stages:
            x = F.relu(second(first(x)) + (x if shortcut is None else shortcut(x)))
        return x.mean((2, 3)) @ kernel + bias

    return m, run


def images(batch, rows, shape, cell, dtype):
    """Squares of `cell` pixels of one value."""
    channels, height, width = shape[0], shape[1] // cell, shape[2] // cell
    small = torch.tensor(draws.draws(IMAGES + batch, rows * channels * height * width)).to(dtype)
    return small.reshape(rows, channels, height, width).repeat_interleave(cell, 2).repeat_interleave(cell, 3)


def losses_of(make, shape, rows, cell, rate, dtype):
    model, run = make()
    for p in model.parameters:
        p.data = p.data.to(dtype)
    optimizer = torch.optim.SGD(model.parameters, lr=rate, momentum=MOMENTUM)
    losses = []
    for step in range(STEPS):
        batch = step % BATCHES
        labels = torch.tensor((draws.words(LABELS + batch, rows) % CLASSES).astype("int64"))
        optimizer.zero_grad()
        loss = F.cross_entropy(run(images(batch, rows, shape, cell, dtype)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.text(), losses


def train(name, make, shape, rows, cell, rate):
    text, losses = losses_of(make, shape, rows, cell, rate, torch.float64)
    single = losses_of(make, shape, rows, cell, rate, torch.float32)[1]
    drift = max(abs(a - b) / a for a, b in zip(losses, single))
    # Only a run that PyTorch itself repeats in single precision can ask the same of others.
    assert drift < 5e-5, drift
    assert losses[-1] < 0.75 * losses[0], losses
    print(name, "drift", drift, [round(v, 4) for v in losses])
    return {"name": name, "model": text, "input": shape, "rows": rows, "cell": cell, "learning_rate": rate,
            "momentum": MOMENTUM, "batches": BATCHES, "losses": [float(f"{v:.12g}") for v in losses]}


if __name__ == "__main__":
    runs = [train("LeNet5", lenet5, [1, 28, 28], 16, 1, 0.1), train("ResNet8", resnet8, [3, 32, 32], 8, 8, 0.005)]
    path = pathlib.Path(__file__).with_name("training.json")
    text = ",\n".join(json.dumps(r, separators=(",", ":")) for r in runs)
    path.write_text(f'{{"torch":"{torch.__version__}","runs":[\n{text}\n]}}\n')
    print(path, path.stat().st_size, "bytes")
