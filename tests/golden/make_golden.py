#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes golden.json beside this file: what PyTorch computes, for golden_test.cc.

Needs Debian's python3-torch. Values are double precision; weights and inputs are rounded to float
first, so that single-precision runs start from the same numbers.
"""

import json
import pathlib

import torch

torch.manual_seed(20240607)
torch.set_default_dtype(torch.float64)


def rounded(*shape):
    return torch.randn(*shape).float().double()


def flat(tensor):
    return tensor.detach().flatten().tolist()


ACTIVATIONS = {"": lambda x: x, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
               "softmax": lambda x: torch.softmax(x, -1)}


class Mlp:
    """Dense layers with [in, units] kernels."""

    def __init__(self, inputs, layers):
        self.layers = layers
        self.parameters = []
        for units, _ in layers:
            self.parameters += [(rounded(inputs, units) / inputs ** 0.5).float().double(), rounded(units) * 0.125]
            inputs = units
        for p in self.parameters:
            p.requires_grad_()

    def __call__(self, x):
        for i, (_, activation) in enumerate(self.layers):
            x = ACTIVATIONS[activation](x @ self.parameters[2 * i] + self.parameters[2 * i + 1])
        return x

    def spec(self):
        return [{"dense": {"units": units, "activation": activation}} for units, activation in self.layers]


def loss_of(kind, output, target):
    if kind == "mse":
        return torch.nn.functional.mse_loss(output, target)
    if kind == "logits":
        return torch.nn.functional.cross_entropy(output, target)
    return torch.nn.functional.nll_loss(torch.log(output), target)


LOSSES = {"mse": {"mean_squared_error": {}},
          "logits": {"sparse_categorical_crossentropy": {"from_logits": True}},
          "probabilities": {"sparse_categorical_crossentropy": {}}}


def targets_for(kind, rows, width):
    return rounded(rows, width) if kind == "mse" else torch.randint(0, width, (rows,))


def gradient_case(name, inputs, layers, kind, rows):
    model = Mlp(inputs, layers)
    x = rounded(rows, inputs)
    target = targets_for(kind, rows, layers[-1][0])
    loss = loss_of(kind, model(x), target)
    loss.backward()
    return {"name": name, "inputs": inputs, "rows": rows, "layers": model.spec(), "loss": LOSSES[kind],
            "parameters": [flat(p) for p in model.parameters], "x": flat(x), "target": flat(target),
            "loss_value": loss.item(), "gradients": [flat(p.grad) for p in model.parameters]}


def gradient_cases():
    for kind, last in (("mse", ""), ("logits", ""), ("probabilities", "softmax")):
        yield gradient_case(f"{kind}_linear", 5, [(4, last)], kind, 3)
        yield gradient_case(f"{kind}_relu", 6, [(7, "relu"), (3, last)], kind, 4)
        yield gradient_case(f"{kind}_deep", 4, [(5, "sigmoid"), (6, "tanh"), (3, "softmax"), (2, last)], kind, 2)


def replay_case():
    """Twenty steps of the lecture's shape in small, SGD with momentum."""
    model = Mlp(20, [(16, "relu"), (16, "relu"), (10, "softmax")])
    start = [flat(p) for p in model.parameters]
    optimizer = torch.optim.SGD(model.parameters, lr=0.1, momentum=0.9)
    batches, losses = [], []
    for _ in range(20):
        x, target = rounded(8, 20), torch.randint(0, 10, (8,))
        optimizer.zero_grad()
        loss = loss_of("probabilities", model(x), target)
        loss.backward()
        optimizer.step()
        batches.append({"x": [round(v, 9) for v in flat(x)], "target": flat(target)})
        losses.append(loss.item())
    return {"inputs": 20, "rows": 8, "layers": model.spec(), "loss": LOSSES["probabilities"], "parameters": start,
            "optimizer": {"sgd": {"learning_rate": 0.1, "momentum": 0.9}}, "batches": batches, "losses": losses}


if __name__ == "__main__":
    golden = {"torch": torch.__version__, "gradients": list(gradient_cases()), "replay": replay_case()}
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, "bytes")
