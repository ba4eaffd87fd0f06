# SPDX-License-Identifier: Apache-2.0
"""The files that both sides read. Only NumPy is used, so that any interpreter can read them."""

import gzip
import os
import pathlib
import subprocess

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
IMAGE_BYTES = 3 * 32 * 32


def find(name, folder, lockstep, train=60_000):
    """(data root, the dataset section of a job file): the real set where there is one, else drawn once into folder."""
    root = pathlib.Path(os.environ.get("LOCKSTEP_DATA_DIR", "") or "/nonexistent")
    return _mnist(root, folder, lockstep, train) if name == "mnist" else _images(root, folder)


def _mnist(root, folder, lockstep, train):
    if (root / "mnist").is_dir():
        return root, {"idx": {"path": "mnist"}}
    if not (folder / "synthetic-digits").is_dir():
        subprocess.run([lockstep, "data", "generate", "synthetic-digits", "--dir", folder / "synthetic-digits",
                        "--train", str(train)],
                       check=True, stdout=subprocess.DEVNULL)
    return folder, {"idx": {"path": "synthetic-digits"}}


def _images(root, folder):
    if (root / "cifar10-small/data_batch_small.bin").is_file():
        return root, {"cifar": {"path": "cifar10-small", "train_files": ["data_batch_small.bin"],
                                "test_files": ["test_batch_small.bin"]}}
    import numpy
    draw = numpy.random.default_rng(1)
    for file, count in (("train.bin", 4000), ("test.bin", 1000)):
        records = draw.integers(0, 256, (count, 1 + IMAGE_BYTES), numpy.uint8)
        records[:, 0] %= 10
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / file).write_bytes(records.tobytes())
    return folder, {"cifar": {"path": "images", "train_files": ["train.bin"], "test_files": ["test.bin"]}}


def load_training(root, dataset):
    """Samples as uint8 [n, ...] and labels as int64 [n]."""
    import numpy
    if "cifar" in dataset:
        folder = pathlib.Path(root, dataset["cifar"]["path"])
        raw = b"".join((folder / name).read_bytes() for name in dataset["cifar"]["train_files"])
        records = numpy.frombuffer(raw, numpy.uint8).reshape(-1, 1 + IMAGE_BYTES)
        return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(numpy.int64)
    images, labels = (_idx(pathlib.Path(root, dataset["idx"]["path"], name)) for name in MNIST)
    return images, labels.astype(numpy.int64)


def _idx(path):
    import numpy
    packed = path.with_name(path.name + ".gz")
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    axes = raw[3]
    shape = numpy.frombuffer(raw, ">u4", axes, 4)
    return numpy.frombuffer(raw, numpy.uint8, offset=4 + 4 * axes).reshape(shape)
