"""The known answers that the generator's authors publish (Random123, kat_vectors, threefry2x32 20)."""

import numpy as np
import pytest
from gptoss_onnx.threefry import _threefry, fold_in, random_bits, seed_key

ALL_ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ALL_ONES, ALL_ONES), (ALL_ONES, ALL_ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, counter, expected):
    found = _threefry(tuple(map(np.uint32, key)), *(np.array([word], np.uint32) for word in counter))
    assert tuple(int(word[0]) for word in found) == expected


def test_a_number_can_be_had_by_itself():
    key = fold_in(seed_key(5), 3)
    together = random_bits(key, np.arange(100))
    assert (random_bits(key, np.array([99, 7])) == together[[99, 7]]).all()


def test_keys_differ_by_seed_and_by_number():
    keys = {tuple(map(int, fold_in(seed_key(seed), number))) for seed in (0, 1, 2**32 - 1) for number in range(4)}
    assert len(keys) == 12
