#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the arrays beside it with NumPy itself, for npy_test.cc and npz_test.cc. Run it after a change here;
the files are committed."""
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).with_name("arrays")
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]


def numbers(code):
    """Shape [2, 3]: 0, 1, 2, 3, 4, 5, as far as the type has them."""
    return np.arange(6).reshape(2, 3).astype(code)


def main():
    FOLDER.mkdir(exist_ok=True)
    for code in TYPES:
        np.save(FOLDER / f"{np.dtype(code).name}.npy", numbers(code))
    for version in [(1, 0), (2, 0), (3, 0)]:
        with open(FOLDER / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, numbers("f4"), version=version)
    np.save(FOLDER / "scalar.npy", np.float32(7))
    np.save(FOLDER / "line.npy", np.arange(5, dtype="i8"))
    np.save(FOLDER / "empty.npy", np.zeros((0, 3), "f4"))
    np.save(FOLDER / "fortran.npy", np.asfortranarray(numbers("f4")))
    np.save(FOLDER / "big_endian.npy", numbers(">f4"))
    np.save(FOLDER / "half.npy", numbers("f2"))
    np.save(FOLDER / "text.npy", np.array(["a", "bc"]))
    np.save(FOLDER / "records.npy", np.zeros(2, [("a", "f4"), ("b", "i4")]))
    np.save(FOLDER / "objects.npy", np.array([None, {}], dtype=object), allow_pickle=True)
    arrays = {"x": numbers("u1"), "y": np.arange(2, dtype="i8")}
    np.savez(FOLDER / "stored.npz", **arrays)
    np.savez_compressed(FOLDER / "packed.npz", **arrays)
    np.savez_compressed(FOLDER / "one.npz", numbers("f8"))


main()
