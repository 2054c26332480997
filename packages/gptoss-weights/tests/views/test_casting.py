"""cast changes the dtype of plain arrays, and of nothing else; what overflows is refused."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    Mxfp4Tensor,
    StoredMxfp4,
    cast,
    open_checkpoint,
    random_checkpoint,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

SOURCE = random_checkpoint(tiny_config(), seed=3)
NORM, GATE_UP = "model.norm.weight", "model.layers.1.mlp.experts.gate_up_proj"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", np.float32, np.dtype(ml_dtypes.bfloat16)])
def test_arrays_are_rounded_and_packed_experts_stay_packed(dtype: Any) -> None:
    view = cast(SOURCE, dtype)
    for name in SOURCE:
        tensor, source = view.read(name), SOURCE.read(name)
        if isinstance(source, Mxfp4Tensor):
            assert isinstance(tensor, Mxfp4Tensor)
            assert view.array_dtype(name) is None
        else:
            assert isinstance(tensor, np.ndarray)
            assert tensor.dtype == view.array_dtype(name) == np.dtype(dtype)
            assert not tensor.flags.writeable
            np.testing.assert_array_equal(tensor, source.astype(dtype))


def test_what_has_the_dtype_already_stays_where_it_is(tmp_path: Path) -> None:
    stored = open_checkpoint(write_tiny_checkpoint(tmp_path / "a", format="hf"))
    assert cast(stored, "bfloat16").stored(NORM) == stored.stored(NORM)
    assert cast(stored, "float32").stored(NORM) is None
    assert isinstance(cast(stored, "float32").stored(GATE_UP), StoredMxfp4)


def test_widening_and_back_gives_the_same_bytes() -> None:
    view = cast(cast(SOURCE, "float32"), "bfloat16")
    assert view.digest() == SOURCE.digest()


class Large(Checkpoint):
    """Everything is 10⁵."""

    format = "large"
    side_files = MappingProxyType({})

    def __init__(self) -> None:
        self.config = tiny_config()

    def read(self, name: str, index: Any = ()) -> np.ndarray:
        return np.full(self.specs[name].shape, 1e5, np.float32)[index]


def test_value_that_overflows_is_refused_by_name() -> None:
    words = f"{NORM}: a value does not fit into float16; expected magnitudes up to 65504; found 1000*. Choose a dtype"
    with pytest.raises(CheckpointError, match=words):
        cast(Large(), "float16").read(NORM)
    assert cast(Large(), "bfloat16").read_array(NORM)[0] == ml_dtypes.bfloat16(1e5)


@pytest.mark.parametrize("dtype", ["int8", "float64", "bf16"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match=f"written in bfloat16, float16, float32, not {dtype}"):
        cast(SOURCE, dtype)
