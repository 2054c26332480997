"""A checkpoint is a lazy mapping; its digest depends on the mathematics alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    GptOssConfig,
    GptOssWarning,
    Index,
    Mxfp4Tensor,
    StoredArray,
    open_checkpoint,
    random_checkpoint,
)
from gptoss_weights.testing import tiny_config


def test_rows_are_a_range_of_bytes() -> None:
    array = StoredArray(path=Path("f"), offset=100, dtype=np.dtype(np.uint16), shape=(10, 3))
    assert array.nbytes == 60
    assert array.rows(2, 5) == StoredArray(path=Path("f"), offset=112, dtype=np.dtype(np.uint16), shape=(3, 3))


def test_checkpoint_iterates_over_canonical_names(openai_folder: Path) -> None:
    checkpoint = open_checkpoint(openai_folder)
    assert list(checkpoint) == list(checkpoint.specs)
    assert len(checkpoint) == 3 + 4 * 17


class Altered(Checkpoint):
    """A checkpoint with one value changed."""

    format = "altered"

    def __init__(self, inner: Checkpoint, name: str) -> None:
        self.config, self.side_files, self._inner, self._name = inner.config, inner.side_files, inner, name

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        tensor = self._inner.read(name, index)
        if name != self._name or 0 in tensor.shape:
            return tensor
        if isinstance(tensor, Mxfp4Tensor):
            blocks = tensor.blocks.copy()
            blocks[-1, -1, -1, -1] ^= 1
            return Mxfp4Tensor(blocks, tensor.scales)
        array = tensor.copy()
        array.reshape(-1).view(np.uint8)[-1] ^= 1
        return array


def test_digest_is_the_same_in_every_layout(openai_folder: Path, hf_folder: Path) -> None:
    made = random_checkpoint(tiny_config(), seed=0)
    assert open_checkpoint(openai_folder).digest() == open_checkpoint(hf_folder).digest() == made.digest()


def test_digest_takes_no_notice_of_unknown_keys_and_spelling(openai_folder: Path) -> None:
    digest = open_checkpoint(openai_folder).digest()
    path = openai_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1, "rope_theta": 150000.0, "swiglu_limit": 7}))
    with pytest.warns(GptOssWarning, match="'extra'"):
        assert open_checkpoint(openai_folder).digest() == digest


@pytest.mark.parametrize("name", ["model.layers.2.self_attn.v_proj.bias", "model.layers.3.mlp.experts.down_proj"])
def test_digest_sees_one_flipped_bit(name: str) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    assert Altered(checkpoint, name).digest() != checkpoint.digest()


@pytest.mark.parametrize("max_bytes", [1, 1000, 5000, 1 << 30])
def test_pieces_are_the_rows_in_order_and_change_no_digest(max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    digest = checkpoint.digest()
    monkeypatch.setitem(Checkpoint.row_slices.__kwdefaults__, "max_bytes", max_bytes)
    monkeypatch.setitem(Checkpoint.pieces.__kwdefaults__, "max_bytes", max_bytes)
    for name in checkpoint:
        pieces = list(checkpoint.pieces(name))
        rows = [piece.shape[0] for _, piece in pieces]
        assert [start for start, _ in pieces] == list(np.cumsum([0, *rows[:-1]]))
        assert all(piece.nbytes <= max_bytes or piece.shape[0] == 1 for _, piece in pieces)
        whole = checkpoint.read(name)
        if isinstance(whole, Mxfp4Tensor):
            np.testing.assert_array_equal(np.concatenate([piece.blocks for _, piece in pieces]), whole.blocks)
            np.testing.assert_array_equal(np.concatenate([piece.scales for _, piece in pieces]), whole.scales)
        else:
            np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), whole)
    assert checkpoint.digest() == digest


def test_digest_sees_a_changed_config() -> None:
    wider: GptOssConfig = tiny_config(sliding_window=12)
    assert random_checkpoint(wider, seed=0).digest() != random_checkpoint(tiny_config(), seed=0).digest()


def test_packed_tensor_is_no_array(openai_folder: Path) -> None:
    checkpoint = open_checkpoint(openai_folder)
    assert checkpoint.read_array("model.norm.weight").shape == (96,)
    with pytest.raises(TypeError, match=r"down_proj is packed as MXFP4"):
        checkpoint.read_array("model.layers.0.mlp.experts.down_proj")


def test_what_is_computed_is_stored_nowhere() -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    assert checkpoint.stored("model.norm.weight") is None
    with pytest.raises(KeyError):
        checkpoint.stored("model.norm.bias")


def test_pieces_of_an_unknown_tensor_are_a_key_error() -> None:
    with pytest.raises(KeyError):
        list(random_checkpoint(tiny_config(), seed=0).pieces("no.such.tensor"))
