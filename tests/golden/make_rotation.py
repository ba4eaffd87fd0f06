#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes rotation.json beside this file: images turned by PyTorch's grid_sample, for image_ops_test.cc.

Needs Debian's python3-torch. Double precision; the images are rounded to float first.
"""

import json
import math
import pathlib

import torch

torch.manual_seed(20240611)
torch.set_default_dtype(torch.float64)


def rotated(image, degrees):
    """Bilinear, zeros outside, about the middle; y points down."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2.0, torch.arange(width) - (width - 1) / 2.0,
                          indexing="ij")
    angle = math.radians(degrees)
    from_x = math.cos(angle) * x + math.sin(angle) * y
    from_y = -math.sin(angle) * x + math.cos(angle) * y
    # With align_corners the outer pixels' middles are at -1 and 1.
    grid = torch.stack((from_x * 2 / (width - 1), from_y * 2 / (height - 1)), dim=-1)
    return torch.nn.functional.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="zeros",
                                           align_corners=True)[0]


def flat(tensor):
    return [round(value, 17) for value in tensor.flatten().tolist()]


cases = []
for shape, degrees in (((1, 5, 7), 30.0), ((3, 4, 4), -75.5), ((1, 6, 6), 180.0), ((2, 8, 5), 12.5), ((1, 3, 3), 90.0)):
    image = torch.randn(*shape).float().double()
    cases.append({"shape": shape, "degrees": degrees, "image": flat(image), "rotated": flat(rotated(image, degrees))})
path = pathlib.Path(__file__).with_name("rotation.json")
path.write_text(json.dumps({"cases": cases}) + "\n")
