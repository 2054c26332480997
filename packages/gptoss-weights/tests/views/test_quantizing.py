"""quantized packs plain experts: exactly where they were packed before, and tells the error where not."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    Mxfp4Tensor,
    cast,
    dequantized,
    open_checkpoint,
    quantized,
    random_checkpoint,
    save_checkpoint,
    trimmed,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

SOURCE = random_checkpoint(tiny_config(), seed=3)
NORM, GATE_UP = "model.norm.weight", "model.layers.1.mlp.experts.gate_up_proj"


class Trained(Checkpoint):
    """Plain Gaussian experts, as training leaves them; one value of GATE_UP can be set."""

    format = "trained"
    side_files = MappingProxyType({})

    def __init__(self, value: float = 1.0) -> None:
        self.config = tiny_config()
        self._value = value

    def read(self, name: str, index: Any = ()) -> np.ndarray:
        array = np.random.default_rng(len(name)).standard_normal(self.specs[name].shape).astype(np.float32)
        array.reshape(-1)[5] = self._value
        return array[index]


@pytest.mark.parametrize("scale", ["max", "mse"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_was_packed_before_comes_back_with_every_value(scale: Any, dtype: Any) -> None:
    view = quantized(dequantized(SOURCE, dtype), scale=scale)
    packed, before = view.read(GATE_UP), SOURCE.read(GATE_UP)
    assert isinstance(packed, Mxfp4Tensor)
    assert isinstance(before, Mxfp4Tensor)
    np.testing.assert_array_equal(packed.decode(), before.decode())
    assert view.errors[GATE_UP].max_abs == view.errors[GATE_UP].relative_l2 == 0.0


def test_packed_experts_and_plain_arrays_pass_through(tmp_path: Path) -> None:
    stored = open_checkpoint(write_tiny_checkpoint(tmp_path / "a", format="hf"))
    view = quantized(stored)
    for name in stored:
        assert view.stored(name) == stored.stored(name)
        assert view.array_dtype(name) == stored.array_dtype(name)
    assert view.digest() == stored.digest()
    assert view.errors == {}


def test_plain_experts_on_disk_are_no_longer_where_they_were(tmp_path: Path) -> None:
    save_checkpoint(SOURCE, tmp_path / "plain", format="hf-bf16")
    view = quantized(open_checkpoint(tmp_path / "plain"))
    assert view.stored(GATE_UP) is None
    assert view.stored(NORM) is not None


@pytest.mark.parametrize(
    "index",
    [
        (),
        (3,),
        (-1,),
        (slice(1, 3),),
        (slice(None, None, -2),),
        (slice(0, 0),),
        (2, 5),
        (2, slice(3, 7)),
        (1, 2, slice(32, 96)),
        (slice(0, 2), slice(None), slice(0, 32)),
    ],
)
def test_index_selects_what_it_selects_of_the_whole(index: tuple[int | slice, ...]) -> None:
    view = quantized(Trained())
    whole, part = view.read(GATE_UP), view.read(GATE_UP, index)
    assert isinstance(whole, Mxfp4Tensor)
    assert isinstance(part, Mxfp4Tensor)
    np.testing.assert_array_equal(part.decode(), whole.decode()[index])


def test_error_is_that_of_the_values_however_often_and_in_whatever_parts_they_are_read() -> None:
    source, view = Trained(), quantized(Trained())
    for index in ((slice(0, 4),), (5,), (slice(3, 7),), ()):
        view.read(GATE_UP, index)
    packed, exact = view.read(GATE_UP), source.read(GATE_UP).astype(np.float64)
    assert isinstance(packed, Mxfp4Tensor)
    difference = packed.decode(np.float32).astype(np.float64) - exact
    error = view.errors[GATE_UP]
    assert error.values == exact.size
    assert error.relative_l2 == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(exact), rel=1e-5)
    assert error.max_abs == pytest.approx(np.abs(difference).max(), rel=1e-6)
    assert list(view.errors) == [GATE_UP]


def test_scales_of_least_error_lower_it() -> None:
    errors = {}
    for scale in ("max", "mse"):
        view = quantized(Trained(), scale=scale)
        view.read(GATE_UP)
        errors[scale] = view.errors[GATE_UP].relative_l2
    assert errors["mse"] < 0.985 * errors["max"]


def test_value_that_is_not_finite_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=f"{GATE_UP}: MXFP4 cannot hold a value that is not finite"):
        quantized(Trained(np.nan)).read(GATE_UP)


def test_unknown_rule_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no rule for scales is called 'best'; there are max, mse"):
        quantized(SOURCE, scale="best")


def test_views_compose_in_any_order() -> None:
    one = trimmed(quantized(dequantized(cast(SOURCE, "float32"))), layers=2, experts=4)
    other = quantized(cast(dequantized(trimmed(SOURCE, layers=2, experts=4), "float32"), "float32"))
    assert one.config == other.config
    assert one.digest() == other.digest()
