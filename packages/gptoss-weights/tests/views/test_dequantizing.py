"""dequantized decodes packed experts exactly, by any slice, and leaves the rest alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_weights import Mxfp4Tensor, dequantized, open_checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint
from hypothesis import given
from hypothesis import strategies as st

SOURCE = random_checkpoint(tiny_config(), seed=3)
NORM, GATE_UP = "model.norm.weight", "model.layers.1.mlp.experts.gate_up_proj"
ITEMS = st.integers(-7, 6) | st.builds(slice, *[st.none() | st.integers(-99, 99)] * 2, st.sampled_from([None, 3, -1]))


@given(index=st.lists(ITEMS, max_size=3).map(tuple))
def test_any_index_selects_what_it_selects_of_the_values(index: tuple[int | slice, ...]) -> None:
    packed = SOURCE.read(GATE_UP)
    assert isinstance(packed, Mxfp4Tensor)
    found, wanted = dequantized(SOURCE).read_array(GATE_UP, index), packed.decode()[index]
    assert found.shape == np.shape(wanted)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_experts_have_the_dtype_and_other_arrays_keep_theirs(dtype: Any) -> None:
    view = dequantized(SOURCE, dtype)
    assert view.array_dtype(GATE_UP) == view.read_array(GATE_UP).dtype == dtype
    assert view.array_dtype(NORM) == SOURCE.array_dtype(NORM)
    assert view.read_array(NORM).tobytes() == SOURCE.read_array(NORM).tobytes()


def test_only_what_is_decoded_no_longer_stands_on_disk(tmp_path: Path) -> None:
    stored = open_checkpoint(write_tiny_checkpoint(tmp_path / "a", format="hf"))
    assert dequantized(stored).stored(GATE_UP) is None
    assert dequantized(stored).stored(NORM) == stored.stored(NORM)
