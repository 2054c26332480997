"""Comparing values across formats: what is equal however it is stored, and what differs, how much and where."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    Index,
    Mxfp4Tensor,
    compare_checkpoints,
    open_checkpoint,
    random_checkpoint,
)
from gptoss_weights.testing import tiny_config
from gptoss_weights.views import cast, dequantized, trimmed

EXPERTS = "model.layers.1.mlp.experts.gate_up_proj"
BIAS = "model.layers.1.self_attn.k_proj.bias"
KINDS = ["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]


class Changed(Checkpoint):
    """A checkpoint with some tensors replaced."""

    format = "changed"
    side_files: Mapping[str, Path] = MappingProxyType({})

    def __init__(self, source: Checkpoint, tensors: Mapping[str, np.ndarray | Mxfp4Tensor], **config: Any) -> None:
        self.config = dataclasses.replace(source.config, **config)
        self._source, self._tensors = source, tensors

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name not in self._tensors:
            return self._source.read(name, index)
        return self._tensors[name][index] if index else self._tensors[name]


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return random_checkpoint(tiny_config(num_hidden_layers=2), seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_equal_to_the_source(
    kind: str, source: Checkpoint, pristine_artefacts: Callable[[str], Path]
) -> None:
    folder = pristine_artefacts(kind)
    for a, b in ((open_checkpoint(folder), source), (source, open_checkpoint(folder))):
        comparison = compare_checkpoints(a, b)
        assert comparison.is_equal
        assert comparison.tensors == len(source)
        assert comparison.encoded_otherwise == []


def test_other_encoding_of_the_same_values_is_equal_and_said(source: Checkpoint) -> None:
    packed = source.read(EXPERTS)
    assert isinstance(packed, Mxfp4Tensor)
    blocks, scales = packed.blocks.copy(), packed.scales.copy()
    blocks[0, 0, 0], scales[0, 0, 0] = 0x22, 120  # ones times 2⁻⁷ …
    again_blocks, again_scales = blocks.copy(), scales.copy()
    again_blocks[0, 0, 0], again_scales[0, 0, 0] = 0x44, 119  # … are twos times 2⁻⁸
    a = Changed(source, {EXPERTS: Mxfp4Tensor(blocks, scales)})
    b = Changed(source, {EXPERTS: Mxfp4Tensor(again_blocks, again_scales)})
    comparison = compare_checkpoints(a, b)
    assert comparison.is_equal
    assert comparison.encoded_otherwise == [EXPERTS]


def test_difference_is_measured_and_placed(source: Checkpoint) -> None:
    packed = source.read(EXPERTS)
    assert isinstance(packed, Mxfp4Tensor)
    exact = packed.decode(np.float32)
    changed = exact.copy()
    changed[3, 77, 40] += 0.5
    changed[6, 1, 2] -= 0.25
    comparison = compare_checkpoints(Changed(source, {EXPERTS: changed}), source)
    assert not comparison.is_equal
    (difference,) = comparison.differences
    assert (difference.name, difference.dtypes) == (EXPERTS, ("float32", "MXFP4"))
    assert (difference.values, difference.differing) == (exact.size, 2)
    assert difference.max_abs == 0.5
    norm = math.sqrt(float((exact.astype(np.float64) ** 2).sum()))
    assert difference.relative_l2 == pytest.approx(math.hypot(0.5, 0.25) / norm)
    assert difference.first_index == (3, 77, 40)
    assert difference.first_values == (changed[3, 77, 40], exact[3, 77, 40])
    assert difference.problem is None


def test_small_pieces_give_the_same_answer(source: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = cast(source, np.float32).read_array("lm_head.weight").copy()
    changed[200, 5:9] *= 1.5
    other = Changed(source, {"lm_head.weight": changed})
    (whole,) = compare_checkpoints(other, source).differences
    monkeypatch.setattr("gptoss_weights.comparison._COMPARED_BYTES", 1000)
    (pieces,) = compare_checkpoints(other, source).differences
    assert pieces.first_index == whole.first_index == (200, 5)
    assert pieces.relative_l2 == pytest.approx(whole.relative_l2)
    assert (pieces.differing, pieces.values, pieces.max_abs) == (whole.differing, whole.values, whole.max_abs)


def test_rounding_differs_exactly_and_not_within_its_tolerance(source: Checkpoint) -> None:
    noise = np.random.default_rng(0).normal(size=source.specs[BIAS].shape).astype(np.float32)
    full = Changed(source, {BIAS: noise})
    rounded = Changed(source, {BIAS: noise.astype(ml_dtypes.bfloat16)})
    assert [found.name for found in compare_checkpoints(rounded, full).differences] == [BIAS]
    assert compare_checkpoints(rounded, full, rtol=2**-8).is_equal
    assert compare_checkpoints(rounded, full, atol=float(np.abs(noise).max()) * 2**-8).is_equal
    assert not compare_checkpoints(rounded, full, rtol=2**-12).is_equal


def test_wider_dtypes_hold_the_same_values(source: Checkpoint) -> None:
    assert compare_checkpoints(cast(dequantized(source), np.float32), source).is_equal


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_differs_under_any_tolerance(source: Checkpoint, value: float) -> None:
    bias = source.read_array(BIAS).copy()
    bias[7] = value
    (difference,) = compare_checkpoints(Changed(source, {BIAS: bias}), source, rtol=1e30, atol=1e30).differences
    assert (difference.differing, difference.max_abs, difference.first_index) == (1, math.inf, (7,))
    assert difference.to_json()["max_abs"] == "inf"
    again = Changed(source, {BIAS: bias.astype(np.float32)})
    assert compare_checkpoints(Changed(source, {BIAS: bias}), again).is_equal


def test_negative_zero_is_zero(source: Checkpoint) -> None:
    bias = np.zeros_like(source.read_array(BIAS))
    assert compare_checkpoints(Changed(source, {BIAS: bias}), Changed(source, {BIAS: -bias})).is_equal


def test_difference_from_zeros_has_no_relative_size(source: Checkpoint) -> None:
    zeros = Changed(source, {BIAS: np.zeros_like(source.read_array(BIAS))})
    (difference,) = compare_checkpoints(source, zeros).differences
    assert difference.relative_l2 == math.inf


def test_config_numbers_are_compared(source: Checkpoint) -> None:
    comparison = compare_checkpoints(Changed(source, {}, sliding_window=12), source)
    assert comparison.differences == []
    assert comparison.config == {"sliding_window": (12, 11)}
    assert not comparison.is_equal


def test_missing_and_misshapen_tensors_are_listed(source: Checkpoint) -> None:
    fewer = compare_checkpoints(trimmed(source, layers=1), source)
    assert fewer.config == {"num_hidden_layers": (1, 2)}
    assert {difference.problem for difference in fewer.differences} == {"only in B"}
    assert all(difference.name.startswith("model.layers.1.") for difference in fewer.differences)
    assert {found.problem for found in compare_checkpoints(source, trimmed(source, layers=1)).differences} == {
        "only in A"
    }
    narrow = random_checkpoint(tiny_config(num_hidden_layers=2, vocab_size=210), seed=0)
    problems = {found.name: found.problem for found in compare_checkpoints(narrow, source).differences if found.problem}
    assert problems == {
        "model.embed_tokens.weight": "shapes [210, 96] and [211, 96]",
        "lm_head.weight": "shapes [210, 96] and [211, 96]",
    }


@pytest.mark.parametrize("tolerance", [{"rtol": -1.0}, {"atol": math.nan}])
def test_tolerance_that_is_none_is_refused(source: Checkpoint, tolerance: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="tolerances must be at least 0"):
        compare_checkpoints(source, source, **tolerance)
