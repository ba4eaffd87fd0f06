#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes layers.json beside this file: what PyTorch makes of every kind of layer, for layers_test.cc.

Needs Debian's python3-torch. Double precision. Inputs, parameters and the outputs' gradients are draws
(draws.py); the file holds the results.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

import draws

torch.set_default_dtype(torch.float64)

ROWS = 2
# Streams of draws; layers_test.cc has the same.
INPUTS, PARAMETERS, OUTPUT_GRADIENT = 10, 20, 5
# What the test's step is: dropout depends on it.
SEED, STEP, LAYER, FIRST_ROW, DROPOUT = 9, 4, 2, 16, 3


def draw(stream, shape):
    count = 1
    for n in shape:
        count *= n
    return torch.tensor(draws.draws(stream, count)).reshape(shape)


def case(name, layer, shapes, function, parameters=(), reduction=1, reach=1, before="", positive=(), constant=()):
    """shapes: of one sample, of each input. positive, constant: indices of parameters that are absolute values,
    and that have no gradient."""
    x = [(draw(INPUTS + i, (ROWS, *shape)) * reach).requires_grad_() for i, shape in enumerate(shapes)]
    p = [draw(PARAMETERS + i, shape) for i, shape in enumerate(parameters)]
    p = [v.abs() if i in positive else v for i, v in enumerate(p)]
    for i, v in enumerate(p):
        v.requires_grad_(i not in constant)
    y = function(*x, *p)
    y.backward(draw(OUTPUT_GRADIENT, y.shape))
    return {"name": name, "layer": layer, "before": before, "input": shapes[0], "reach": reach, "reduction": reduction,
            "parameters": [list(v.shape) for v in p], "y": draws.rounded(y), "dx": [draws.rounded(v.grad) for v in x],
            "gradients": [[] if v.grad is None else draws.rounded(v.grad) for v in p]}


def same(size, window, stride, dilation=1):
    """Rows before and behind, so that ceil(size / stride) places fit."""
    pad = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return pad // 2, pad - pad // 2


def padded(x, window, stride, dilation=(1, 1), value=0.0):
    top, bottom = same(x.shape[2], window[0], stride[0], dilation[0])
    left, right = same(x.shape[3], window[1], stride[1], dilation[1])
    return F.pad(x, (left, right, top, bottom), value=value)


def dense():
    yield case("dense_plain", "dense { units: 3 }", [[4]], lambda x, w, b: x @ w + b, [[4, 3], [3]], 4)
    yield case("dense_no_bias", "dense { units: 5 use_bias: false }", [[9]], lambda x, w: x @ w, [[9, 5]], 9)
    yield case("dense_one", "dense { units: 1 }", [[17]], lambda x, w, b: x @ w + b, [[17, 1], [1]], 17)


def conv2d():
    yield case("conv2d_valid", "conv2d { filters: 2 kernel_size: 3 }", [[2, 4, 4]], F.conv2d, [[2, 2, 3, 3], [2]], 18)
    yield case("conv2d_same", "conv2d { filters: 2 kernel_size: [3, 2] strides: 2 padding: PADDING_SAME }", [[2, 4, 5]],
               lambda x, w, b: F.conv2d(padded(x, (3, 2), (2, 2)), w, b, stride=2), [[2, 2, 3, 2], [2]], 12)
    yield case("conv2d_dilated_groups",
               "conv2d { filters: 4 kernel_size: 2 dilation_rate: [2, 1] groups: 2 use_bias: false }", [[4, 4, 3]],
               lambda x, w: F.conv2d(x, w, dilation=(2, 1), groups=2), [[4, 2, 2, 2]], 8)
    yield case("conv2d_explicit", "conv2d { filters: 3 kernel_size: 2 strides: [2, 1] padding: PADDING_EXPLICIT "
               "explicit_padding: [1, 0, 2, 1] }", [[1, 3, 3]],
               lambda x, w, b: F.conv2d(F.pad(x, (2, 1, 1, 0)), w, b, stride=(2, 1)), [[3, 1, 2, 2], [3]], 4)


def depthwise_conv2d():
    yield case("depthwise_conv2d_plain", "depthwise_conv2d { kernel_size: 3 }", [[2, 4, 4]],
               lambda x, w, b: F.conv2d(x, w, b, groups=2), [[2, 1, 3, 3], [2]], 9)
    yield case("depthwise_conv2d_multiplied",
               "depthwise_conv2d { kernel_size: 2 depth_multiplier: 2 strides: 2 padding: PADDING_SAME }", [[2, 3, 3]],
               lambda x, w, b: F.conv2d(padded(x, (2, 2), (2, 2)), w, b, stride=2, groups=2), [[4, 1, 2, 2], [4]], 4)
    yield case("depthwise_conv2d_dilated", "depthwise_conv2d { kernel_size: 2 dilation_rate: 2 use_bias: false }",
               [[3, 4, 3]], lambda x, w: F.conv2d(x, w, dilation=2, groups=3), [[3, 1, 2, 2]], 4)


def pooling():
    yield case("max_pooling2d_default", "max_pooling2d {}", [[2, 4, 5]], lambda x: F.max_pool2d(x, 2))
    yield case("max_pooling2d_same", "max_pooling2d { pool_size: 3 strides: 2 padding: PADDING_SAME }", [[1, 6, 5]],
               lambda x: F.max_pool2d(padded(x, (3, 3), (2, 2), value=-float("inf")), 3, 2), reduction=4)
    yield case("max_pooling2d_explicit", "max_pooling2d { pool_size: [2, 3] strides: 1 padding: PADDING_EXPLICIT "
               "explicit_padding: [1, 0, 2, 1] }", [[2, 3, 3]],
               lambda x: F.max_pool2d(F.pad(x, (2, 1, 1, 0), value=-float("inf")), (2, 3), 1), reduction=6)
    yield case("average_pooling2d_default", "average_pooling2d {}", [[2, 4, 5]], lambda x: F.avg_pool2d(x, 2), reduction=4)
    yield case("average_pooling2d_explicit", "average_pooling2d { pool_size: 3 strides: 2 padding: PADDING_EXPLICIT "
               "explicit_padding: [1, 1, 1, 1] }", [[1, 5, 5]],
               lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False), reduction=9)

    def mean_of_the_inside(x):
        sums = F.avg_pool2d(padded(x, (2, 2), (2, 2)), 2)
        return sums / F.avg_pool2d(padded(torch.ones_like(x), (2, 2), (2, 2)), 2)

    yield case("average_pooling2d_same", "average_pooling2d { padding: PADDING_SAME }", [[2, 3, 5]], mean_of_the_inside,
               reduction=4)
    for i, shape in enumerate(([2, 3, 4], [3, 1, 1], [4, 2, 3])):
        area = shape[1] * shape[2]
        yield case(f"global_max_pooling2d_{i}", "global_max_pooling2d {}", [shape], lambda x: x.amax((2, 3)))
        yield case(f"global_average_pooling2d_{i}", "global_average_pooling2d {}", [shape], lambda x: x.mean((2, 3)),
                   reduction=area)


def normalization():
    def batch(x, gamma, beta, mean, variance, training=True, epsilon=0.001):
        return F.batch_norm(x, mean.clone(), variance.clone(), gamma, beta, training, 0.01, epsilon)

    c = [[3]] * 4
    yield case("batch_normalization_image", "batch_normalization {}", [[3, 2, 3]], batch, c, 12, positive=[3], constant=[2, 3])
    yield case("batch_normalization_no_scale", "batch_normalization { scale: false epsilon: 0.1 }", [[3, 2, 2]],
               lambda x, b, m, v: batch(x, None, b, m, v, epsilon=0.1), c[:3], 8, positive=[2], constant=[1, 2])
    yield case("batch_normalization_no_center", "batch_normalization { center: false }", [[4]],
               lambda x, g, m, v: batch(x, g, None, m, v), [[4]] * 3, 2, positive=[2], constant=[1, 2])
    yield case("batch_normalization_frozen", "batch_normalization {} trainable: false", [[3, 2, 2]],
               lambda *a: batch(*a, training=False), c, 8, positive=[3], constant=[2, 3])
    yield case("layer_normalization_vector", "layer_normalization {}", [[7]],
               lambda x, g, b: F.layer_norm(x, (7,), g, b, 0.001), [[7], [7]], 7)
    yield case("layer_normalization_axes", "layer_normalization { axis: 1 center: false epsilon: 0.01 }", [[2, 3, 2]],
               lambda x, g: F.layer_norm(x, (3, 2), g, None, 0.01), [[3, 2]], 6)
    yield case("layer_normalization_bare", "layer_normalization { axis: 0 center: false scale: false }", [[2, 2, 3]],
               lambda x: F.layer_norm(x, (2, 2, 3), None, None, 0.001), reduction=12)
    yield case("group_normalization_image", "group_normalization { groups: 2 }", [[4, 2, 2]],
               lambda x, g, b: F.group_norm(x, 2, g, b, 0.001), [[4], [4]], 8)
    yield case("group_normalization_vector", "group_normalization { groups: 3 scale: false epsilon: 0.1 }", [[9]],
               lambda x, b: F.group_norm(x, 3, torch.ones(9), b, 0.1), [[9]], 3)
    yield case("group_normalization_instances", "group_normalization { groups: 3 center: false }", [[3, 2, 3]],
               lambda x, g: F.group_norm(x, 3, g, None, 0.001), [[3]], 6)


def shapes():
    for i, shape in enumerate(([2, 3, 2], [5], [3, 4])):
        yield case(f"flatten_{i}", "flatten {}", [shape], lambda x: x.flatten(1))
    for i, (shape, target) in enumerate((([2, 6], [4, 3]), ([3, 2, 2], [12]), ([12], [3, 2, 2]))):
        yield case(f"reshape_{i}", f"reshape {{ target_shape: {[-1] + target[1:]} }}", [shape],
                   lambda x, t=target: x.reshape(-1, *t))
    yield case("add_two", "add {} inputs: ['input', 'input']", [[5], [5]], lambda a, b: a + b, reduction=2)
    yield case("add_three", "add {} inputs: ['input', 'input', 'input']", [[2, 2, 3]] * 3, lambda a, b, c: a + b + c,
               reduction=3)
    yield case("add_four", "add {} inputs: ['input', 'input', 'input', 'input']", [[3, 4]] * 4,
               lambda a, b, c, d: a + b + c + d, reduction=4)
    yield case("concatenate_vectors", "concatenate {} inputs: ['input', 'a']", [[5], [3]], lambda a, b: torch.cat((a, b), 1),
               before="layers { name: 'a' dense { units: 3 } }")
    yield case("concatenate_channels", "concatenate {} inputs: ['input', 'a']", [[2, 3, 2], [1, 3, 2]],
               lambda a, b: torch.cat((a, b), 1),
               before="layers { name: 'a' conv2d { filters: 1 kernel_size: 1 } }")
    yield case("concatenate_last", "concatenate { axis: -1 } inputs: ['input', 'input', 'a']", [[1, 2, 4], [1, 2, 4], [1, 2, 3]],
               lambda a, b, c: torch.cat((a, b, c), 3),
               before="layers { name: 'a' conv2d { filters: 1 kernel_size: [1, 2] } }")


def dropout():
    for name, rate, shape in (("some", 0.4, [13]), ("none", 0.0, [5]), ("much", 0.75, [2, 3, 3])):
        width = 1
        for n in shape:
            width *= n
        first = FIRST_ROW * width
        words = draws.philox_words(SEED ^ DROPOUT << 56, STEP << 16 | LAYER, first + ROWS * width)[first:]
        mask = torch.tensor([float(w >= int(rate * 2 ** 32)) for w in words]).reshape(ROWS, *shape)
        yield case(f"dropout_{name}", f"dropout {{ rate: {rate} }}", [shape],
                   lambda x, m=mask, r=rate: x * m / (1 - r), reduction=4)


def activations():
    functions = {"linear": lambda x: x * 1, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "selu": F.selu,
                 "silu": F.silu, "softplus": F.softplus, "hard_sigmoid": F.hardsigmoid, "elu": F.elu, "gelu": F.gelu,
                 "leaky_relu": lambda x: F.leaky_relu(x, 0.3)}
    for kind, function in functions.items():
        for shape, reach in (([7], 1), ([2, 5], 4), ([2, 2, 5], 16)):
            yield case(f"{kind}_{reach}", f"{kind} {{}}", [shape], function, reach=reach)
    yield case("leaky_relu_slope", "leaky_relu { negative_slope: 0.01 }", [[9]], lambda x: F.leaky_relu(x, 0.01), reach=2)
    yield case("elu_alpha", "elu { alpha: 0.5 }", [[9]], lambda x: F.elu(x, 0.5), reach=2)
    for reach in (1, 4):
        yield case(f"gelu_approximate_{reach}", "gelu { approximate: true }", [[9]],
                   lambda x: F.gelu(x, approximate="tanh"), reach=reach)
    for kind, function in (("softmax", F.softmax), ("log_softmax", F.log_softmax)):
        for shape, reach in (([5], 1), ([2, 2, 3], 4), ([9], 32)):
            yield case(f"{kind}_{reach}", f"{kind} {{}}", [shape], lambda x, f=function: f(x, -1), reduction=shape[-1],
                       reach=reach)


if __name__ == "__main__":
    cases = [c for part in (dense, conv2d, depthwise_conv2d, pooling, normalization, shapes, dropout, activations)
             for c in part()]
    path = pathlib.Path(__file__).with_name("layers.json")
    text = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text(f'{{"torch":"{torch.__version__}","rows":{ROWS},"cases":[\n{text}\n]}}\n')
    print(path, len(cases), "cases,", path.stat().st_size, "bytes")
