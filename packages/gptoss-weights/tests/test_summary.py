"""A summary counts what the headers say, and reads nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights import GPT_OSS_20B, open_checkpoint, random_checkpoint, summarize
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize("fixture", ["openai_folder", "hf_folder"])
def test_bytes_add_up_to_the_data_of_the_files(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    summary = summarize(open_checkpoint(folder))
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in summary.files)
    assert summary.nbytes == sum(file.stat().st_size for file in summary.files) - headers
    assert summary.nbytes == sum(summary.bytes_by_dtype.values())
    assert set(summary.bytes_by_dtype) == {"bfloat16", "MXFP4"}
    assert summary.files == tuple(sorted(folder.glob("*.safetensors")))


def test_what_is_not_stored_counts_as_published() -> None:
    summary = summarize(random_checkpoint(GPT_OSS_20B, seed=0))
    assert summary.nbytes == 13_761_264_768
    assert summary.parameters == 20_914_757_184
    assert summary.files == ()


def test_stored_and_computed_summaries_agree_but_for_the_files(openai_folder: Path) -> None:
    stored = summarize(open_checkpoint(openai_folder)).to_json()
    computed = summarize(random_checkpoint(tiny_config(), seed=0)).to_json()
    for document in (stored, computed):
        for key in ("format", "files"):
            del document[key]
        for tensor in document["tensors"]:
            del tensor["places"]
    assert stored == computed


def test_tensors_are_described_one_by_one(hf_folder: Path) -> None:
    tensors = {tensor.name: tensor for tensor in summarize(open_checkpoint(hf_folder)).tensors}
    gate_up = tensors["model.layers.1.mlp.experts.gate_up_proj"]
    assert (gate_up.shape, gate_up.dtype, gate_up.nbytes) == ((7, 128, 96), "MXFP4", 7 * 128 * 3 * 17)
    [place] = gate_up.places
    assert isinstance(place, Path)
    assert place.parent == hf_folder


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("hf-bf16", {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}),
        ("flax", {"bundle.msgpack"}),
        ("orbax-scanned", {f"params.params.decoder.layers.layers_1.GptOssMlp.wi_{half}" for half in (0, 1)}),
        ("orbax-unscanned", {f"params.params.decoder.layers_1.GptOssMlp.wi_{half}" for half in (0, 1)}),
    ],
)
def test_every_tensor_is_said_to_stand_somewhere(artefact: Callable[[str], Path], kind: str, places: set[str]) -> None:
    path = artefact(kind)
    document = summarize(open_checkpoint(path)).to_json()
    named = {tensor["name"]: tensor["places"] for tensor in document["tensors"]}
    folder = path if path.is_dir() else path.parent
    assert all(found and all((folder / place).exists() for place in found) for found in named.values())
    assert set(named["model.layers.1.mlp.experts.gate_up_proj"]) <= places
    weights = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".msgpack")]
    assert document["files"] == {file.name: file.stat().st_size for file in weights}
