import itertools

import numpy as np
import pytest
from gptoss_weights.tiled_copy import copy_by_tiles, in_c_order

SHAPE = (3, 300, 520)  # more than one tile along either of the longer axes, and a rest


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_in_any_order_are_copied_whole(order):
    array = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE).transpose(order)
    copy = in_c_order(array)
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, array)


def test_what_stands_in_order_is_not_copied():
    array = np.zeros(SHAPE)
    assert in_c_order(array) is array


def test_values_are_cast_into_a_target_with_gaps():
    source = np.arange(300 * 520, dtype=np.float32).reshape(520, 300)
    target = np.full((300, 2, 520), -1.0, np.float64)
    copy_by_tiles(target[:, 1], source.T)
    np.testing.assert_array_equal(target[:, 1], source.T)
    assert (target[:, 0] == -1).all()
