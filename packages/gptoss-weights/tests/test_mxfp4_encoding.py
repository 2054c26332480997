"""Encoding by bits is encoding by values; scales of least error are never worse than those of the standard."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import FP4_VALUES, encode_mxfp4
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

GRID = np.unique(np.array(FP4_VALUES))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def squared_errors(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Of blocks [n, 32] under scale bytes [n], each value rounded to the nearest, in float64."""
    powers = np.exp2(scales.reshape(-1).astype(np.float64) - 127)[:, None]
    distances = np.abs(values.astype(np.float64)[..., None] / powers[..., None] - GRID).min(axis=-1)
    return ((distances * powers) ** 2).sum(axis=-1)


def blocks_of(kind: str, dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(7)
    draws = {"normal": rng.standard_normal, "heavy": lambda shape: rng.standard_t(3, shape), "uniform": rng.random}
    return (draws[kind]((1000, 32)) * 0.02).astype(dtype)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.float32, np.float16, np.float64])
@pytest.mark.parametrize("kind", ["normal", "heavy", "uniform"])
def test_mse_finds_the_best_of_five_powers(kind: str, dtype: Any) -> None:
    values = blocks_of(kind, dtype)
    standard = encode_mxfp4(values)
    best = np.min([squared_errors(values, standard.scales.astype(int) + d) for d in (-2, -1, 0, 1, 2)], axis=0)
    chosen = encode_mxfp4(values, scale="mse")
    found = ((chosen.decode(np.float32).astype(np.float64) - values.astype(np.float64)) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found, best, rtol=1e-4)
    assert set(np.unique(chosen.scales.astype(int) - standard.scales)) <= {0, 1}


@given(raw=hnp.arrays(np.uint16, (3, 32)), rule=st.sampled_from(["max", "mse"]))
def test_any_bits_of_bfloat16_come_out_as_the_nearest_value_of_their_scale(raw: np.ndarray, rule: Any) -> None:
    values = np.where((raw & 0x7F80) == 0x7F80, 0, raw).astype(np.uint16).view(BFLOAT16)
    packed = encode_mxfp4(values, scale=rule)
    found = (packed.decode(np.float32).astype(np.float64) - values.astype(np.float64)) ** 2
    np.testing.assert_allclose(found.sum(axis=-1), squared_errors(values, packed.scales), rtol=1e-9)
    np.testing.assert_array_equal(np.signbit(packed.decode(np.float32)), np.signbit(values))


@pytest.mark.parametrize("exponent", range(-150, -110))
def test_the_smallest_floats_are_encoded_like_any_other(exponent: int) -> None:
    values = np.ldexp(np.linspace(-1, 1, 32), exponent).astype(np.float32)
    packed = encode_mxfp4(values)
    found = (packed.decode(np.float32).astype(np.float64) - values) ** 2
    np.testing.assert_allclose(found.sum(), squared_errors(values[None], packed.scales)[0], rtol=1e-9)


def test_bfloat16_and_float32_give_the_same_bytes() -> None:
    values = blocks_of("heavy", BFLOAT16)
    for rule in ("max", "mse"):
        narrow, wide = encode_mxfp4(values, scale=rule), encode_mxfp4(values.astype(np.float32), scale=rule)
        np.testing.assert_array_equal(narrow.blocks, wide.blocks)
        np.testing.assert_array_equal(narrow.scales, wide.scales)


def test_size_of_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = blocks_of("normal", BFLOAT16).reshape(10, 100, 32)
    whole = encode_mxfp4(values, scale="mse")
    monkeypatch.setattr("gptoss_weights.mxfp4_encoding._CHUNK_BLOCKS", 37)
    np.testing.assert_array_equal(encode_mxfp4(values, scale="mse").blocks, whole.blocks)


def test_transposed_view_is_encoded_in_its_own_order() -> None:
    values = blocks_of("normal", np.float32)[:64].T
    np.testing.assert_array_equal(encode_mxfp4(values).blocks, encode_mxfp4(values.copy()).blocks)


def test_nothing_is_packed_into_nothing() -> None:
    assert encode_mxfp4(np.zeros((0, 64), np.float32)).shape == (0, 64)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="no rule for scales is called 'mean'; there are max, mse"):
        encode_mxfp4(np.zeros(32, np.float32), scale="mean")
