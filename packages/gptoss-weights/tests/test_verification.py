"""Verification finds values that are not finite and scales that overflow, and says where."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    Index,
    StoredArray,
    StoredMxfp4,
    find_corruption,
    open_checkpoint,
    random_checkpoint,
    verify_checkpoint,
)
from gptoss_weights.demo import demo_checkpoint
from gptoss_weights.testing import tiny_config

BIAS = "model.layers.1.self_attn.k_proj.bias"
EXPERTS = "model.layers.2.mlp.experts.down_proj"


def poke(array: StoredArray, position: int, raw: bytes) -> None:
    """Overwrites elements of a stored array in place."""
    with array.path.open("r+b") as file:
        file.seek(array.offset + position * array.dtype.itemsize)
        file.write(raw)


def stored_array(checkpoint: Checkpoint, name: str) -> StoredArray:
    stored = checkpoint.stored(name)
    assert isinstance(stored, StoredArray)
    return stored


def test_sound_checkpoints_pass(openai_folder: Path, hf_folder: Path) -> None:
    for checkpoint in (
        open_checkpoint(openai_folder),
        open_checkpoint(hf_folder),
        demo_checkpoint(),
        random_checkpoint(tiny_config(), seed=0),
    ):
        assert list(find_corruption(checkpoint)) == []
        verify_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("raw", "shown"), [(b"\xc0\x7f", "nan"), (b"\x80\x7f", "inf"), (b"\x80\xff", "-inf"), (b"\x81\xff", "nan")]
)
def test_value_that_is_not_finite_is_found(openai_folder: Path, raw: bytes, shown: str) -> None:
    checkpoint = open_checkpoint(openai_folder)
    bias = stored_array(checkpoint, BIAS)
    poke(bias, 17, raw + raw)
    findings = list(find_corruption(checkpoint))
    assert [finding.tensor for finding in findings] == [BIAS]
    assert str(findings[0]) == (
        f"{bias.path}: {BIAS} (block.1.attn.qkv.bias): 2 of 90 values are not finite, the first is {shown} at [17]"
    )


def test_last_value_of_a_large_tensor_is_read(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tiny_config(vocab_size=100_000), seed=0)
    head = checkpoint.read_array("lm_head.weight").copy()
    head[-1, -1] = np.inf

    class Spoiled(type(checkpoint)):  # type: ignore[misc]
        def read(self, name: str, index: Index = ()) -> object:
            return head[(*index, ...)] if name == "lm_head.weight" else super().read(name, index)

    findings = list(find_corruption(Spoiled(checkpoint.config, 0), ["lm_head.weight"]))
    assert [str(finding) for finding in findings] == [
        "lm_head.weight: 1 of 9600000 values are not finite, the first is inf at [99999, 95]"
    ]


@pytest.mark.parametrize("scale", [253, 254, 255])
def test_scale_that_overflows_is_found(hf_folder: Path, scale: int) -> None:
    checkpoint = open_checkpoint(hf_folder)
    stored = checkpoint.stored(EXPERTS)
    assert isinstance(stored, StoredMxfp4)
    poke(stored.scales, (3 * 96 + 5) * 2 + 1, bytes([scale]))
    findings = list(find_corruption(checkpoint))
    assert [str(finding) for finding in findings] == [
        f"{stored.scales.path}: {EXPERTS}: 1 of 1344 MXFP4 scales are above 252 and overflow, "
        f"the first is {scale} at [3, 5, 1]"
    ]


def test_scale_252_is_sound(hf_folder: Path) -> None:
    checkpoint = open_checkpoint(hf_folder)
    stored = checkpoint.stored(EXPERTS)
    assert isinstance(stored, StoredMxfp4)
    poke(stored.scales, 0, bytes([252]))
    verify_checkpoint(checkpoint)


def test_all_findings_are_raised_at_once(openai_folder: Path) -> None:
    checkpoint = open_checkpoint(openai_folder)
    poke(stored_array(checkpoint, BIAS), 0, b"\xc0\x7f")
    poke(stored_array(checkpoint, "model.norm.weight"), 0, b"\xc0\x7f")
    with pytest.raises(CheckpointError) as error:
        verify_checkpoint(checkpoint)
    assert BIAS in str(error.value)
    assert "model.norm.weight" in str(error.value)
