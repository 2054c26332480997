"""An index into a canonical tensor gives the same through a leaf's ranges as directly."""

import numpy as np
import pytest
from gptoss_weights.formats.orbax.selection import Selection
from gptoss_weights.formats.orbax.tree import Leaf, orbax_leaves
from gptoss_weights.testing import tiny_config
from hypothesis import given
from hypothesis import strategies as st

LEAVES = {leaf.path[-1] + str(leaf.half): leaf for leaf in orbax_leaves(tiny_config(), is_scanned=False)}
GATE = LEAVES["wi_00"]


def entries(extent: int) -> st.SearchStrategy[int | slice]:
    return st.one_of(st.integers(-extent, extent - 1), st.slices(extent))


@given(st.data())
def test_every_basic_index_selects_what_numpy_selects(data: st.DataObject) -> None:
    leaf: Leaf = data.draw(st.sampled_from(list(LEAVES.values())))
    shape = leaf.specs[0].shape
    count = data.draw(st.integers(0, len(shape)))
    index = tuple(data.draw(entries(extent)) for extent in shape[:count])
    whole = np.arange(np.prod(shape)).reshape(shape)
    selection = Selection.of(index, leaf)
    split = whole.reshape([leaf.sizes[letter] for letter in leaf.split])
    part = split[tuple(selection.ranges.get(letter, slice(None)) for letter in leaf.split)].copy()
    assert part.shape == selection.split_shape
    if leaf.half is not None:  # a half that is not needed is never read
        axis = leaf.split.index("2")
        for half in {0, 1} - selection.halves:
            part[(slice(None),) * axis + (half,)] = -1
    np.testing.assert_array_equal(selection.apply(part), whole[(*index, ...)])


def test_gate_rows_alone_need_no_up() -> None:
    assert Selection.of((2, slice(0, None, 2)), GATE).halves == {0}
    assert Selection.of((2, slice(1, None, 2)), GATE).halves == {1}
    assert Selection.of((2, 5), GATE).halves == {1}
    assert Selection.of((2,), GATE).halves == {0, 1}


def test_range_is_no_wider_than_the_rows() -> None:
    selection = Selection.of((3, slice(10, 21)), GATE)
    assert selection.ranges["E"] == slice(3, 4)
    assert selection.ranges["F"] == slice(5, 11)


def test_index_out_of_range_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        Selection.of((7,), GATE)
    with pytest.raises(IndexError, match="4 indices for the 3 axes"):
        Selection.of((0, 0, 0, 0), GATE)
