"""Threefry-2x32 with 20 rounds: random bits as a function of a key and a counter, as JAX draws them.

A counter-based generator has no state, so each number can be had by itself. The one that JAX uses
makes a seed mean the same in every engine of the toolkit.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), section 4.
"""

import numpy as np

__all__ = ["Key", "fold_in", "random_bits", "seed_key"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # alternate every four rounds
GROUPS = 5  # of four rounds
PARITY = np.uint32(0x1BD11BDA)  # of Skein's key schedule

type Key = tuple[np.uint32, np.uint32]


def seed_key(seed: int) -> Key:
    """The key of a seed below 2³²."""
    return np.uint32(0), np.uint32(seed)


def fold_in(key: Key, number: int) -> Key:
    """A key for one of many: a sequence of a batch, a step."""
    first, second = _threefry(key, np.zeros(1, np.uint32), np.array([number], np.uint32))
    return first[0], second[0]


def random_bits(key: Key, places: np.ndarray) -> np.ndarray:
    """The uint32 at each place (below 2³²) of the key's endless array of them."""
    first, second = _threefry(key, np.zeros(places.shape, np.uint32), places.astype(np.uint32))
    bits: np.ndarray = first ^ second
    return bits


def _threefry(key: Key, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The block cipher over pairs of uint32; sums wrap."""
    schedule = (*key, key[0] ^ key[1] ^ PARITY)
    first, second = first + schedule[0], second + schedule[1]
    for group in range(1, GROUPS + 1):
        for rotation in ROTATIONS[(group - 1) % 2]:
            first = first + second
            second = (second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation))
            second = second ^ first
        first = first + schedule[group % 3]
        second = second + schedule[(group + 1) % 3] + np.uint32(group)
    return first, second
