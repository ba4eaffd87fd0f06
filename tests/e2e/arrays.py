# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npy files without NumPy, and sets of pictures made of them."""

import hashlib
import struct

SIDE = 12


def write_npy(path, dtype, shape, values):
    """`values`: the bytes, in C order."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}"
    header = header.ljust(-(-(10 + len(header) + 1) // 64) * 64 - 11) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(values)


def picture(label, number):
    """Noise with a bright band, where the label says; a function of its arguments."""
    noise = hashlib.shake_128(f"{label}/{number}".encode()).digest(SIDE * SIDE)
    first = label * SIDE
    return bytes(min(255, pixel // 2 + 120) if first <= i < first + 2 * SIDE else pixel // 2
                 for i, pixel in enumerate(noise))


def write_pictures(folder, shards, samples, test=300):
    """Ten classes of 12 x 12 pictures: `shards` files of `samples` each, and one of held-out ones."""
    folder.mkdir(parents=True)
    counts = [(f"train-{i:04}", i * samples, samples) for i in range(shards)] + [("test", shards * samples, test)]
    for name, first, count in counts:
        labels = [i % 10 for i in range(first, first + count)]
        images = b"".join(picture(label, first + i) for i, label in enumerate(labels))
        write_npy(folder / f"{name}-x.npy", "|u1", [count, 1, SIDE, SIDE], images)
        write_npy(folder / f"{name}-y.npy", "<i8", [count], struct.pack(f"<{count}q", *labels))


def numpy_dataset(folder, **options):
    return {"numpy": {"train_features": [f"{folder}/train-*-x.npy"], "train_targets": [f"{folder}/train-*-y.npy"],
                      "test_features": [f"{folder}/test-x.npy"], "test_targets": [f"{folder}/test-y.npy"],
                      "scale": 1 / 255}} | options
