"""Tensors too many, too few, of the wrong form, with impossible values, or the wrong way round."""

import json
import unittest.mock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gptoss_weights import open_checkpoint, save_checkpoint
from gptoss_weights.views.base import View

type Broken = Callable[[str], Path]
type Refused = Callable[..., None]
type Arrays = dict[str, np.ndarray]

OPENAI_DOWN = "block.1.mlp.mlp2_weight"
HF_DOWN = "model.layers.1.mlp.experts.down_proj"


def rewrite(folder: Path, change: Callable[[Arrays], object]) -> None:
    """Changes the tensors of a folder with one weights file."""
    file = folder / "model.safetensors"
    arrays = {name: array.copy() for name, array in safetensors.numpy.load_file(file).items()}
    change(arrays)
    safetensors.numpy.save_file(arrays, file)


# Name → kind of checkpoint, how its tensors change, and the words.
FORMS: dict[str, tuple[str, Callable[[Arrays], object], str]] = {
    "extra tensor": (
        "openai",
        lambda arrays: arrays.update(extra=np.zeros(3, np.float32)),
        "model.safetensors: extra is no tensor of this geometry. Is this the config of these weights?",
    ),
    "missing tensor": (
        "openai",
        lambda arrays: arrays.pop("norm.scale"),
        "norm.scale is missing, expected BF16 [96]. Is a shard missing, or is this the config of another model?",
    ),
    "blocks without scales": (
        "openai",
        lambda arrays: arrays.pop(f"{OPENAI_DOWN}.scales"),
        f"{OPENAI_DOWN}.scales is missing, expected U8 [7, 96, 2]. Is a shard missing",
    ),
    "scales without blocks": (
        "openai",
        lambda arrays: arrays.pop(f"{OPENAI_DOWN}.blocks"),
        f"{OPENAI_DOWN}.blocks is missing, expected U8 [7, 96, 2, 16]. Is a shard missing",
    ),
    "wrong number of groups": (
        "openai",
        lambda arrays: arrays.update({f"{OPENAI_DOWN}.scales": np.zeros((7, 96, 3), np.uint8)}),
        f"{OPENAI_DOWN}.scales has the wrong shape, expected U8 [7, 96, 2], found U8 [7, 96, 3]. Is this the config",
    ),
    "transposed matrix": (
        "openai",
        lambda arrays: arrays.update({"unembedding.weight": np.ascontiguousarray(arrays["unembedding.weight"].T)}),
        "unembedding.weight has the wrong shape, expected BF16 [211, 96], found BF16 [96, 211]. Is this the config",
    ),
    "wrong dtype": (
        "openai",
        lambda arrays: arrays.update({"norm.scale": arrays["norm.scale"].view(np.int16)}),
        "norm.scale has the wrong dtype, expected BF16 [96], found I16 [96]",
    ),
    "tensors of another model": (
        "openai",
        lambda arrays: [arrays.clear(), arrays.update({"transformer.h.0.weight": np.zeros(3, np.float32)})],
        "the tensors are named as in no layout that is known here; expected model.layers.… (Hugging Face) or block.… "
        "(OpenAI's original/); found transformer.h.0.weight",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_form_is_held_against_the_schema(name: str, broken: Broken, assert_refused: Refused) -> None:
    kind, change, words = FORMS[name]
    folder = broken(kind)
    rewrite(folder, change)
    assert_refused(folder, [words, str(folder)])


def set_first(name: str, value: float) -> Callable[[Arrays], object]:
    return lambda arrays: arrays[name].reshape(-1).__setitem__(0, value)


# Name → kind of checkpoint, how its values change, and what `verify` says, which alone reads all of them.
VALUES: dict[str, tuple[str, Callable[[Arrays], object], str]] = {
    "NaN in a bias": (
        "openai",
        set_first("block.0.attn.qkv.bias", np.nan),
        "model.safetensors: model.layers.0.self_attn.q_proj.bias (block.0.attn.qkv.bias): "
        "1 of 180 values are not finite, the first is nan at [0]",
    ),
    "infinity in a plain expert": (
        "hf-bf16",
        set_first(HF_DOWN, np.inf),
        f"model.safetensors: {HF_DOWN}: 1 of 43008 values are not finite, the first is inf at [0, 0, 0]",
    ),
    **{
        f"scale {scale}": (
            "openai",
            set_first(f"{OPENAI_DOWN}.scales", scale),
            f"model.safetensors: {HF_DOWN} ({OPENAI_DOWN}.scales): 1 of 1344 MXFP4 scales are above 252 and overflow, "
            f"the first is {scale} at [0, 0, 0]",
        )
        for scale in (253, 254, 255)
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_impossible_values_are_found_by_verify(name: str, broken: Broken, run: Callable[..., Any]) -> None:
    kind, change, words = VALUES[name]
    folder = broken(kind)
    rewrite(folder, change)
    result = run("verify", folder)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"error: {folder}/{words}. Fetch the weights again; see --json for all findings.\n"
    assert json.loads(run("verify", folder, "--json").stdout)["problems"] == [f"{folder}/{words}"]


def test_overflowing_scale_is_not_decoded_into_another_format(broken: Broken, run: Callable[..., Any]) -> None:
    folder = broken("openai")
    rewrite(folder, set_first(f"{OPENAI_DOWN}.scales", 255))
    target = folder.parent / "converted"
    result = run("convert", folder, target, "--to", "hf-bf16")
    assert result.exit_code == 3
    words = "down_proj: decoded values are not finite; expected MXFP4 scales up to 252; found 255. Fetch the weights"
    assert words in result.stderr
    assert not target.exists()
    assert run("convert", folder, target, "--to", "hf").exit_code == 0, "bytes are moved as they are; verify judges"
    assert run("verify", target).exit_code == 3


# ---------------------------------------------------------------- square matrices the wrong way round


class Turned(View):
    """A checkpoint whose square matrices of some names are transposed; saved, a file of a tool that forgot to."""

    def __init__(self, source: Any, suffix: str, *, is_trained: bool) -> None:
        super().__init__(source)
        self._suffix, self._is_trained = suffix, is_trained

    def stored(self, name: str) -> None:
        return None

    def fingerprint(self) -> None:
        return None

    def read(self, name: str, index: Any = ()) -> Any:
        whole = self.source.read(name)
        whole = whole.decode() if hasattr(whole, "decode") else whole
        if name.endswith(self._suffix):
            if self._is_trained:
                noise = 1e-3 * np.random.default_rng(0).standard_normal(whole.shape)
                whole = (whole.astype(np.float32) + noise).astype(ml_dtypes.bfloat16)
            if whole.shape[1] == whole.shape[2]:
                whole = whole.swapaxes(1, 2)
            else:  # gate and up, each turned by itself
                halves = [whole[:, half::2].swapaxes(1, 2) for half in (0, 1)]
                whole = np.stack(halves, axis=2).reshape(whole.shape)
        return whole[(*index, ...)]

    def array_dtype(self, name: str) -> np.dtype:
        return np.dtype(ml_dtypes.bfloat16)


FOUND: Mapping[str, str] = {
    "hf-bf16": "expected [E, F, D]; found [E, D, F]",
    "flax": "expected [E, D, F]; found [E, F, D]",
    "orbax-scanned": "expected [E, F, D]; found [E, D, F]",
    "orbax-unscanned": "expected [E, F, D]; found [E, D, F]",
}


def turned(source: Path, target: Path, kind: str, suffix: str, *, is_trained: bool = False) -> Path:
    target.mkdir()
    path = target / "bundle.msgpack" if kind == "flax" else target
    view = Turned(open_checkpoint(source), suffix, is_trained=is_trained)
    # Saving would refuse it: what was written is opened to make its manifest.
    with unittest.mock.patch("gptoss_weights.formats.orientation.is_transposed_mxfp4", return_value=False):
        save_checkpoint(view, path, format=kind)  # type: ignore[arg-type]
    for manifest in target.glob("*manifest.json"):
        manifest.unlink()
    return path


@pytest.mark.parametrize("kind", FOUND)
def test_square_down_proj_the_wrong_way_round_is_refused(
    kind: str, sound: Broken, tmp_path: Path, assert_refused: Refused
) -> None:
    path = turned(sound("square openai"), tmp_path / "turned", kind, "down_proj")
    words = [
        "model.layers.0.mlp.experts.down_proj: ",
        "the matrix stands the wrong way round: its values share their MXFP4 scales along the wrong axis; "
        f"{FOUND[kind]}. Convert it again from the packed checkpoint.",
    ]
    assert_refused(path, words, knows_when_read=kind.startswith("orbax"))


@pytest.mark.parametrize("kind", ["orbax-scanned", "orbax-unscanned"])
def test_square_gate_and_up_of_maxtext_the_wrong_way_round_are_refused(
    kind: str, sound: Broken, tmp_path: Path, assert_refused: Refused
) -> None:
    path = turned(sound("square openai"), tmp_path / "turned", kind, "gate_up_proj")
    words = ["model.layers.0.mlp.experts.gate_up_proj: ", "wrong axis; expected [E, D, F]; found [E, F, D]. Convert"]
    assert_refused(path, words, knows_when_read=True)


@pytest.mark.parametrize("kind", FOUND)
def test_square_matrix_the_right_way_round_passes(kind: str, sound: Broken, run: Callable[..., Any]) -> None:
    folder = sound(f"square {kind}")
    path = folder / "bundle.msgpack" if kind == "flax" else folder
    assert run("verify", path).exit_code == 0


@pytest.mark.parametrize("kind", FOUND)
def test_square_matrix_that_was_trained_since_cannot_be_told(
    kind: str, sound: Broken, tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = turned(sound("square openai"), tmp_path / "turned", kind, "down_proj", is_trained=True)
    assert run("verify", path).exit_code == 0, "nothing in the file could tell"
