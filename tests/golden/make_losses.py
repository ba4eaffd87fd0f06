#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes losses.json beside this file: what PyTorch computes, for losses_test.cc.

Needs Debian's python3-torch. Values are double precision; outputs and targets are rounded to float
first. A loss is the mean over the samples of a batch, and its gradient is with respect to the outputs.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(20240608)
torch.set_default_dtype(torch.float64)
ROWS = 6


def numbers(width):
    return (2 * torch.randn(ROWS, width)).float().double()


def distributions(width):
    return torch.softmax(torch.randn(ROWS, width), -1).float().double()


def probabilities(width):
    return torch.sigmoid(torch.randn(ROWS, width)).float().double()


def labels(classes):
    return torch.randint(0, classes, (ROWS,))


def case(kind, spec, output, target, loss):
    output.requires_grad_()
    value = loss(output, target)
    value.backward()
    return {"loss": {kind: spec}, "output": output.tolist(), "target": target.tolist(),
            "labels": not target.is_floating_point(), "value": value.item(), "gradient": output.grad.tolist()}


def weighted(smoothing, weights):
    """The combination that PyTorch defines otherwise: from its log_softmax, by the formula."""
    def loss(x, t):
        one_hot = F.one_hot(t, x.shape[1]).double() if not t.is_floating_point() else t
        q = one_hot * (1 - smoothing) + smoothing / x.shape[1]
        row = -(q * F.log_softmax(x, -1)).sum(-1)
        return (row * torch.tensor(weights)[one_hot.argmax(-1)]).mean()
    return loss


def crossentropies():
    weights = [1.0, 0.5, 2.0, 0.25]
    for kind, target in (("sparse_categorical_crossentropy", labels), ("categorical_crossentropy", distributions)):
        yield case(kind, {"from_logits": True}, numbers(4), target(4), F.cross_entropy)
        yield case(kind, {"from_logits": True, "label_smoothing": 0.1}, numbers(7), target(7),
                   lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1))
        yield case(kind, {"from_logits": True, "label_smoothing": 0.2, "class_weights": weights}, numbers(4),
                   target(4), weighted(0.2, weights))
    yield case("sparse_categorical_crossentropy", {}, distributions(5), labels(5),
               lambda p, t: F.nll_loss(torch.log(p), t))
    yield case("sparse_categorical_crossentropy", {"class_weights": weights}, distributions(4), labels(4),
               lambda p, t: F.nll_loss(torch.log(p), t, weight=torch.tensor(weights), reduction="sum") / ROWS)
    yield case("categorical_crossentropy", {}, distributions(5), distributions(5),
               lambda p, t: -(t * torch.log(p)).sum(-1).mean())


def binary_crossentropies():
    kind = "binary_crossentropy"
    yield case(kind, {}, probabilities(3), probabilities(3), F.binary_cross_entropy)
    yield case(kind, {"from_logits": True}, numbers(3), probabilities(3), F.binary_cross_entropy_with_logits)
    yield case(kind, {"from_logits": True}, numbers(1), labels(2),
               lambda x, t: F.binary_cross_entropy_with_logits(x, t.double()[:, None]))
    yield case(kind, {"label_smoothing": 0.2}, probabilities(1), labels(2),
               lambda p, t: F.binary_cross_entropy(p, t.double()[:, None] * 0.8 + 0.1))


def errors():
    for width in (1, 3, 8):
        yield case("mean_squared_error", {}, numbers(width), numbers(width), F.mse_loss)
        yield case("mean_absolute_error", {}, numbers(width), numbers(width), F.l1_loss)
    yield case("huber", {}, numbers(4), numbers(4), F.huber_loss)
    for delta in (0.3, 2.5):
        yield case("huber", {"delta": delta}, numbers(4), numbers(4),
                   lambda x, t, delta=delta: F.huber_loss(x, t, delta=delta))


def others():
    def hinge(x, t):
        return torch.clamp(1 - t * x, min=0).mean()
    for width in (1, 4):
        yield case("hinge", {}, numbers(width), torch.sign(numbers(width)), hinge)
    yield case("hinge", {}, numbers(1), labels(2), lambda x, t: hinge(x, 2 * t.double()[:, None] - 1))
    for width in (2, 3, 6):
        yield case("kl_divergence", {}, distributions(width), distributions(width),
                   lambda p, t: F.kl_div(torch.log(p), t, reduction="batchmean"))


def main():
    cases = [*crossentropies(), *binary_crossentropies(), *errors(), *others()]
    path = pathlib.Path(__file__).with_name("losses.json")
    path.write_text(json.dumps(cases, separators=(",", ":")).replace('},{"loss"', '},\n{"loss"') + "\n")


if __name__ == "__main__":
    main()
