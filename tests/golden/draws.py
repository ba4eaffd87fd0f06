# SPDX-License-Identifier: Apache-2.0
"""Numbers that the scripts here and draws.h compute alike, so that no fixture has to hold them."""

import numpy


def words(stream, count):
    """The integer hash `lowbias32` of Wellons, of i + 0x9E3779B9 * stream."""
    h = (numpy.arange(count, dtype=numpy.uint64) + 0x9E3779B9 * stream) & 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 0x7FEB352D) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 0x846CA68B) & 0xFFFFFFFF
    return h ^ (h >> 16)


def draws(stream, count):
    """In [-1, 1), 24 bits each: floats hold them exactly."""
    return (words(stream, count) >> 8) / 2.0 ** 23 - 1.0


def philox_words(key, stream, count):
    """Philox4x32-10 as in common/rng.h: word i is word i % 4 of block i / 4."""
    out = []
    for block in range((count + 3) // 4):
        c = [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
        k = [key & 0xFFFFFFFF, key >> 32]
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        out += c
    return out[:count]


def rounded(tensor):
    """Nine digits: a float needs no more."""
    return [float(f"{v:.9g}") for v in tensor.detach().flatten().tolist()]
