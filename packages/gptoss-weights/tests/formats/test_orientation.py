"""Plain experts the wrong way round are refused where it can be known, and it is said where it cannot."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gptoss_weights import CheckpointError, open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.formats.orientation import is_transposed_mxfp4
from gptoss_weights.testing import tiny_config

SQUARE = {"hidden_size": 96, "intermediate_size": 96}


@pytest.fixture
def square(tmp_path: Path) -> Path:
    save_checkpoint(random_checkpoint(tiny_config(**SQUARE), seed=2), tmp_path / "square", format="hf-bf16")
    return tmp_path / "square"


def turn(folder: Path, suffix: str) -> None:
    """Swaps the last two axes of every tensor whose name ends so."""
    file = folder / "model.safetensors"
    arrays = safetensors.numpy.load_file(file)
    for name, array in arrays.items():
        if name.endswith(suffix):
            arrays[name] = np.ascontiguousarray(array.swapaxes(-1, -2))
    safetensors.numpy.save_file(arrays, file)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    return str(caught.value)


def test_plain_experts_stand_transposed_on_disk_and_canonically_in_memory(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=2)
    save_checkpoint(checkpoint, tmp_path / "out", format="hf-bf16")
    arrays = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    name = "model.layers.1.mlp.experts.gate_up_proj"
    assert arrays[name].shape == (7, 96, 128), "[E, D, 2F]"
    np.testing.assert_array_equal(arrays[name].swapaxes(1, 2), checkpoint.read(name).decode())
    opened = open_checkpoint(tmp_path / "out")
    assert opened.read_array(name).shape == (7, 128, 96)
    assert opened.stored(name) is None
    assert opened.stored("model.norm.weight") is not None
    np.testing.assert_array_equal(opened.read_array(name, (3, slice(5, 9))), checkpoint.read(name, (3,)).decode()[5:9])


def test_square_down_proj_the_wrong_way_round_shows_by_its_values(square: Path) -> None:
    assert open_checkpoint(square).format == "hf-bf16"
    turn(square, "down_proj")
    message = refusal(square)
    assert "model.layers.0.mlp.experts.down_proj: the matrix stands the wrong way round" in message
    assert "expected [E, F, D]; found [E, D, F]" in message


def test_square_down_proj_that_was_trained_since_cannot_be_told(square: Path) -> None:
    file = square / "model.safetensors"
    arrays = safetensors.numpy.load_file(file)
    rng = np.random.default_rng(0)
    for name, array in arrays.items():
        if name.endswith("down_proj"):
            noisy = array.astype(np.float32) + 1e-3 * rng.standard_normal(array.shape)
            arrays[name] = noisy.astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file(arrays, file)
    open_checkpoint(square)
    turn(square, "down_proj")
    open_checkpoint(square)  # no error: nothing in the file could tell


def test_experts_that_were_not_transposed_show_by_their_shapes(square: Path) -> None:
    turn(square, "_proj")
    message = refusal(square)
    assert "4 expert matrices are not transposed, as plain ones are in Hugging Face's layout" in message
    assert "model.layers.0.mlp.experts.gate_up_proj is [7, 192, 96], not [7, 96, 192]" in message
    assert "convert it again from the packed one" in message


@pytest.mark.parametrize("turned", ["down_proj", "gate_up_proj"])
def test_one_matrix_that_is_not_transposed_shows_by_its_shape(tmp_path: Path, turned: str) -> None:
    save_checkpoint(random_checkpoint(tiny_config(), seed=2), tmp_path / "out", format="hf-bf16")
    turn(tmp_path / "out", turned)
    assert f"4 expert matrices are not transposed, as plain ones are in Hugging Face's layout: model.layers.0.mlp.experts.{turned}" in refusal(tmp_path / "out")  # fmt: skip  # noqa: E501


def test_leftover_quantization_config_is_refused_by_name(square: Path) -> None:
    config = square / "config.json"
    document = json.loads(config.read_text())
    assert "quantization_config" not in document
    config.write_text(json.dumps({**document, "quantization_config": {"quant_method": "mxfp4"}}))
    message = refusal(square)
    assert message.startswith(f"{config}: quantization_config says that the experts are packed, but they are plain")
    assert "Remove it from the config" in message
    clean = square / "clean.json"
    clean.write_text(json.dumps(document))
    assert open_checkpoint(square, config=clean).format == "hf-bf16"


def test_a_sample_without_any_difference_proves_nothing() -> None:
    assert not is_transposed_mxfp4(np.zeros((64, 32), np.float32))
    assert not is_transposed_mxfp4(np.full((64, 32), np.nan, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_plain_arrays_of_other_dtypes_are_read_and_may_differ(tmp_path: Path, dtype: type) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=2)
    save_checkpoint(checkpoint, tmp_path / "out", format="hf-bf16")
    file = tmp_path / "out" / "model.safetensors"
    arrays = safetensors.numpy.load_file(file)
    arrays = {name: a.astype(dtype) if "layers.1" in name else a for name, a in arrays.items()}
    safetensors.numpy.save_file(arrays, file)
    opened = open_checkpoint(tmp_path / "out")
    for name in checkpoint:
        assert opened.array_dtype(name) == (dtype if "layers.1" in name else ml_dtypes.bfloat16)
    with pytest.raises(ValueError, match=r"give dtype='bfloat16' to have arrays rounded to it"):
        save_checkpoint(opened, tmp_path / "again", format="hf-bf16")
    save_checkpoint(opened, tmp_path / "again", format="hf-bf16", dtype="bfloat16")
    save_checkpoint(checkpoint, tmp_path / "same", format="hf-bf16")
    if dtype != np.float16:  # which has not the range of bfloat16
        assert (tmp_path / "again" / file.name).read_bytes() == (tmp_path / "same" / file.name).read_bytes()
