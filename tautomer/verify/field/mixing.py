"""Random functions: a keyed hash of residues stands for a function of which nothing is known.

Two graphs that agree whatever the function is agree for the function that it stands for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tautomer.verify.blocks import by_blocks
from tautomer.verify.field.modular import Words


def key(*parts: object) -> int:
    """A 64-bit number that depends on all the parts and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mixed(x: Words) -> Words:
    """A bijection of 64-bit words without visible structure (D. Lea's and G. Steele's mixer of SplitMix)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hashed(slabs: Sequence[Words], count: int, name: str) -> Words:
    """A word per element from its slabs; those that are left out, of `count`, are 0."""
    keys = [np.uint64(key(name, i)) for i in range(count)]

    def of(*given: Words) -> Words:
        total: Words = np.zeros((), dtype=np.uint64)
        with np.errstate(over="ignore"):
            for i in range(count):
                slab = given[i] if i < len(given) else np.zeros((), dtype=np.uint64)
                total = total + mixed(mixed(slab + keys[i]) + np.uint64(i))
            return mixed(total)

    return by_blocks(of, *slabs, read=np.uint64, gives=np.uint64)


def hashed_rows(words: Words, absent: Words | None, name: str) -> Words:
    """A word per row (the last axis) that does not depend on the order; absent elements do not count."""
    each = mixed(words ^ np.uint64(key(name)))
    if absent is not None:
        each = np.where(absent, np.uint64(0), each)
    with np.errstate(over="ignore"):
        return mixed(np.asarray(each.sum(axis=-1, dtype=np.uint64)))
