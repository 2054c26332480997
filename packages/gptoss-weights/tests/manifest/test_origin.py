"""What a conversion computes anew is held to the source's manifest first: damage may not be signed as the truth."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights import CheckpointError, StoredArray, StoredMxfp4, convert_checkpoint, open_checkpoint

type MakeArtefact = Callable[[str], Path]
DOWN = "model.layers.1.mlp.experts.down_proj"


def flip_a_bit_of_an_expert(path: Path) -> None:
    stored = open_checkpoint(path).stored(DOWN)
    half = stored.blocks if isinstance(stored, StoredMxfp4) else stored
    assert isinstance(half, StoredArray)
    content = bytearray(half.path.read_bytes())
    content[half.offset + 7] ^= 1
    half.path.write_bytes(content)


@pytest.mark.parametrize(("kind", "to"), [("hf", "hf-bf16"), ("openai", "flax"), ("openai", "orbax-unscanned")])
def test_flipped_bit_of_what_is_decoded_is_refused(artefact: MakeArtefact, kind: str, to: str, tmp_path: Path) -> None:
    if to.startswith("orbax"):
        pytest.importorskip("tensorstore", reason="the extra [orbax] is not installed")
    path = artefact(kind)
    flip_a_bit_of_an_expert(path)
    target = tmp_path / ("copy.msgpack" if to == "flax" else "copy")
    with pytest.raises(CheckpointError, match=f"{DOWN} has changed since the manifest was written"):
        convert_checkpoint(open_checkpoint(path), target, format=to)  # type: ignore[arg-type]
    assert not target.exists()
    (path / "manifest.json").unlink()
    convert_checkpoint(open_checkpoint(path), target, format=to)  # type: ignore[arg-type]


def test_flipped_bit_of_what_is_cut_or_rounded_is_refused(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("hf")
    flip_a_bit_of_an_expert(path)
    with pytest.raises(CheckpointError, match="has changed"):
        convert_checkpoint(open_checkpoint(path), tmp_path / "few", format="hf", experts=3)
    convert_checkpoint(open_checkpoint(path), tmp_path / "one", format="hf", layers=1)  # without the damaged layer
