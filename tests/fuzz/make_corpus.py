#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the inputs that fuzzing starts from: small files of each format as other programs write them. Run it
after a change here; the files are committed. Inputs that once broke a reader are added by hand, as found-*."""
import gzip
import io
import json
import pathlib
import struct
import zipfile

import numpy as np

CORPUS = pathlib.Path(__file__).with_name("corpus")


def write(reader, name, content):
    folder = CORPUS / reader
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def npy(array, **kwargs):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **kwargs)
    return file.getvalue()


def npz(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def idx():
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8))
    write("idx", "images", images)
    write("idx", "labels", bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]))
    write("idx", "images.gz", gzip.compress(images, mtime=0))
    write("idx", "two-members.gz", gzip.compress(images[:9], mtime=0) + gzip.compress(images[9:], mtime=0))


def csv():
    # The first byte chooses how the file is read.
    numbers = "x,y\n" + "".join(f"{i},{2 * i}\n" for i in range(8))
    text = "x,t,y\n" + "".join(f"{i},{'abc'[i % 3]},{i % 2}\n" for i in range(8))
    write("csv", "numbers", "\x00" + numbers)
    write("csv", "standardized", "\x04" + numbers)
    write("csv", "classes", "\x08" + numbers)
    write("csv", "text", "\x10" + text)
    write("csv", "gaps", "\x17" + text.replace("a", "").replace("7,", ","))
    write("csv", "dropped", "\x12" + text.replace("a", ""))
    write("csv", "quotes", '\x1c\ufeff"x","t","y"\r\n' + '1,"a ""b"", c",z\r\n2,"d\ne",w\r\n' * 3)


def arrays():
    for code in ["u1", "i8", "f4", "f8", "?"]:
        write("npy", f"small-{np.dtype(code).name}", npy(np.arange(6).reshape(2, 3).astype(code)))
    for version in [2, 3]:
        write("npy", f"version{version}", npy(np.arange(3, dtype="f4"), version=(version, 0)))
    write("npy", "records", npy(np.zeros(2, [("a", "f4")])))
    write("npy", "fortran", npy(np.asfortranarray(np.zeros((2, 3), "f4"))))
    small = {"x": np.arange(6, dtype="u1").reshape(2, 3), "y": np.arange(2)}
    write("npz", "stored", npz(np.savez, **small))
    write("npz", "packed", npz(np.savez_compressed, **small))
    write("npz", "one", npz(np.savez_compressed, x=np.zeros(5000, "f4")))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"a comment"
        archive.writestr("x.npy", npy(np.arange(3)))
        archive.writestr("folder/readme.txt", "no array")
    write("npz", "other-members", file.getvalue())


def cifar():
    image = bytes(range(256)) * 12
    write("cifar", "ten", b"\x00\x03" + image)
    write("cifar", "hundred-fine", b"\x01\x05\x42" + image)
    write("cifar", "hundred-coarse", b"\x02\x05\x42" + image)


def models():
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    kept = {"format": "lockstep-preprocessing", "version": 1, "sample_shape": [2], "scale": 1.0, "offset": 0.0,
            "mean": [], "stddev": []}
    column = {"name": "a", "categories": ["b", "c"], "mean": [0.5, 0.5], "stddev": [0.5, 0.5], "standardized": False}
    table = {"features": [column], "targets": [], "classes": ["u", "v"], "class_column": "y", "fill_missing": True}
    write("safetensors", "empty", safetensors({}, b""))
    write("safetensors", "one", safetensors({"a": entry}, bytes(8)))
    write("safetensors", "model", safetensors(
        {"__metadata__": {"format": "lockstep", "preprocessing": json.dumps(kept)}, "dense/kernel": entry}, bytes(8)))
    write("safetensors", "table", safetensors(
        {"__metadata__": {"preprocessing": json.dumps(kept | {"table": table})}, "a": entry}, bytes(8)))
    # A model that can be rebuilt.
    rebuilt = {"model": {"layers": [{"batch_normalization": {}}, {"dense": {"units": "1", "use_bias": False}},
                                    {"softplus": {}}], "input_shape": ["2"]}, "loss": {"mean_squared_error": {}}}
    names = ["gamma", "beta", "moving_mean", "moving_variance"]
    header = {f"batch_normalization/{name}": {**entry, "data_offsets": [8 * i, 8 * i + 8]}
              for i, name in enumerate(names)}
    header["dense/kernel"] = {"dtype": "F32", "shape": [2, 1], "data_offsets": [32, 40]}
    write("safetensors", "trained", safetensors(
        {"__metadata__": {"preprocessing": json.dumps(kept), "job": json.dumps(rebuilt)}, **header}, bytes(40)))


def jobs():
    for example in sorted(CORPUS.parents[2].glob("examples/*.yaml")):
        write("job_file", example.stem, example.read_bytes())
    write("job_file", "graph", """name: graph
dataset: {numpy: {train_features: ["x-*.npz:x"], train_targets: [y.npy]}, validation_fraction: 0.2}
model:
  input_shape: [3, 8, 8]
  layers:
    - conv2d: {filters: 4, kernel_size: [3, 3], padding: PADDING_SAME, groups: 1, dilation_rate: [2]}
      name: a
    - {max_pooling2d: {pool_size: [2]}, inputs: [a]}
    - batch_normalization
    - reshape: {target_shape: [-1]}
    - dense: {units: 2, activation: softmax, kernel_initializer: {he_normal: {}}}
loss: sparse_categorical_crossentropy
optimizer: {adam: {learning_rate: 0.001}}
training: {batch_size: 4, epochs: 1}
resources: {workers: 1}
""")


for make in [idx, csv, arrays, cifar, models, jobs]:
    make()
