"""`verify` passes sound checkpoints and calls every kind of damage by its name, with exit code 3."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gptoss_weights import StoredArray, open_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH

INDEX = "model.safetensors.index.json"


def verify(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["verify", str(folder), *options])


@pytest.mark.parametrize("fixture", ["openai_folder", "hf_folder"])
def test_sound_checkpoint_passes(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    result = verify(folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{folder}: sound (")


def test_demo_checkpoint_passes() -> None:
    assert verify(DEMO_CHECKPOINT_PATH).exit_code == 0


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def header_edit(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Changes the header; the data stays."""

    def edit(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        raw = json.dumps(header).encode()
        return len(raw).to_bytes(8, "little") + raw + content[8 + length :]

    return edit


def twice(content: bytes) -> bytes:
    """A header whose first key stands there twice."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    first = header[1 : header.index(b"}") + 1]
    raw = b"{" + first + b"," + header[1:]
    return len(raw).to_bytes(8, "little") + raw + content[8 + length :]


def shift(entry: dict[str, Any], by: int) -> None:
    entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]


def second(header: dict[str, Any]) -> dict[str, Any]:
    return list(header.values())[1]


def poke_bias(folder: Path) -> None:
    stored = open_checkpoint(folder).stored("model.layers.0.self_attn.q_proj.bias")
    assert isinstance(stored, StoredArray)
    rewrite(stored.path, lambda raw: raw[: stored.offset] + b"\xc0\x7f" + raw[stored.offset + 2 :])


def poke_scale(folder: Path) -> None:
    scales = open_checkpoint(folder).stored("model.layers.0.mlp.experts.down_proj").scales  # type: ignore[union-attr]
    rewrite(scales.path, lambda raw: raw[: scales.offset] + b"\xff" + raw[scales.offset + 1 :])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda f: shards(f)[0].unlink(), "the file is missing; the index says that it holds"),
    "missing shard without index": (
        lambda f: [(f / INDEX).unlink(), shards(f)[1].unlink()],
        "the shard is missing",
    ),
    "missing config": (lambda f: (f / "config.json").unlink(), "the config is not there. Give its place with --config"),
    "truncated file": (lambda f: rewrite(shards(f)[0], lambda raw: raw[:-1000]), "the file is truncated"),
    "empty file": (lambda f: rewrite(shards(f)[0], lambda raw: b""), "the file is empty"),
    "under 8 bytes": (lambda f: rewrite(shards(f)[0], lambda raw: raw[:5]), "too short for safetensors"),
    "header of 2^63 bytes": (
        lambda f: rewrite(shards(f)[0], lambda raw: (2**63).to_bytes(8, "little") + raw[8:]),
        "its header would be too large",
    ),
    "LFS pointer": (
        lambda f: rewrite(shards(f)[0], lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is a Git-LFS pointer",
    ),
    "HTML page": (lambda f: rewrite(shards(f)[0], lambda raw: b"<!DOCTYPE html><html>"), "is an HTML page"),
    "not JSON": (
        lambda f: rewrite(shards(f)[0], lambda raw: raw[:8] + b"#" + raw[9:]),
        "the header is not valid JSON",
    ),
    "not UTF-8": (lambda f: rewrite(shards(f)[0], lambda raw: raw[:10] + b"\xff" + raw[11:]), "is not UTF-8"),
    "trailing bytes": (lambda f: rewrite(shards(f)[0], lambda raw: raw + b"\0"), "bytes follow the last tensor"),
    "duplicate key": (lambda f: rewrite(shards(f)[0], twice), "stands there twice"),
    "overlapping offsets": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: shift(second(h), -2))),
        "the tensor overlaps the one before it",
    ),
    "holed offsets": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: shift(second(h), 2))),
        "there is a hole before the tensor",
    ),
    "unknown dtype": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: second(h).update(dtype="FP4"))),
        "unknown dtype",
    ),
    "negative dimension": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: second(h).update(shape=[-1]))),
        "the shape is not a list of sizes",
    ),
    "shape times dtype": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: second(h)["shape"].append(2))),
        "shape and dtype do not fit the bytes reserved",
    ),
    "wrong shape": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: second(h)["shape"].insert(0, 1))),
        "has the wrong shape",
    ),
    "wrong dtype": (
        lambda f: rewrite(shards(f)[0], header_edit(lambda h: second(h).update(dtype="I16"))),
        "has the wrong dtype",
    ),
    "extra tensor": (
        lambda f: [
            (f / INDEX).unlink(),
            rewrite(
                shards(f)[-1],
                lambda raw: (
                    header_edit(
                        lambda h: h.update(
                            extra={
                                "dtype": "U8",
                                "shape": [1],
                                "data_offsets": [max(e["data_offsets"][1] for e in h.values())] * 1
                                + [max(e["data_offsets"][1] for e in h.values()) + 1],
                            }
                        )
                    )(raw)
                    + b"\0"
                ),
            ),
        ],
        "extra is no tensor of this geometry",
    ),
    "index leaves the folder": (
        lambda f: edit_json(f / INDEX, lambda i: i["weight_map"].update(x="../../secret.safetensors")),
        "x is said to be in '../../secret.safetensors', which is outside the folder",
    ),
    "index names an absent tensor": (
        lambda f: edit_json(f / INDEX, lambda i: i["weight_map"].update(ghost=shards(f)[0].name)),
        "ghost is missing, though the index places it there",
    ),
    "missing config key": (
        lambda f: edit_json(f / "config.json", lambda c: c.pop("sliding_window")),
        "sliding_window is missing",
    ),
    "misspelled config key": (
        lambda f: edit_json(f / "config.json", lambda c: c.update(slidding_window=c.pop("sliding_window"))),
        "sliding_window is missing (is 'slidding_window' a misspelling?)",
    ),
    "mistyped config value": (
        lambda f: edit_json(f / "config.json", lambda c: c.update(head_dim="18")),
        "head_dim must be a whole number, not '18'",
    ),
    "config of another model": (
        lambda f: edit_json(f / "config.json", lambda c: c.update(vocab_size=212)),
        "has the wrong shape, expected BF16 [212, 96], found BF16 [211, 96]",
    ),
    "config that is not JSON": (lambda f: (f / "config.json").write_text("{"), "the config is not valid JSON"),
    "NaN in a bias": (poke_bias, "values are not finite, the first is nan at [0]"),
    "scale 255": (poke_scale, "MXFP4 scales are above 252 and overflow, the first is 255 at [0, 0, 0]"),
    "no folder": (lambda f: shutil.rmtree(f), "there is no such folder"),
}


@pytest.mark.parametrize("fixture", ["openai_folder", "hf_folder"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_sentence_and_exit_code_3(kind: str, fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    damage, words = DAMAGE[kind]
    damage(folder)
    result = verify(folder)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert str(folder) in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_json_of_a_sound_checkpoint(hf_folder: Path) -> None:
    document = json.loads(verify(hf_folder, "--json").stdout)
    assert (document["checkpoint"], document["ok"], document["format"]) == (str(hf_folder), True, "hf")
    assert (document["tensors_read"], document["problems"]) == (71, [])


@pytest.mark.parametrize("kind", ["truncated file", "NaN in a bias"])
def test_json_of_a_damaged_checkpoint(hf_folder: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(hf_folder)
    result = verify(hf_folder, "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert not document["ok"]
    assert words in document["problems"][0]


def test_many_findings_are_counted(openai_folder: Path) -> None:
    checkpoint = open_checkpoint(openai_folder)
    for name in checkpoint:
        stored = checkpoint.stored(name)
        if isinstance(stored, StoredArray):
            with stored.path.open("r+b") as file:
                file.seek(stored.offset)
                file.write(b"\x80\x7f")
    result = verify(openai_folder)
    assert result.exit_code == 3
    assert result.stderr.count("not finite") == 20
    assert "and 43 more. Fetch the weights again; see --json for all findings." in result.stderr
    assert len(json.loads(verify(openai_folder, "--json").stdout)["problems"]) == 63


def test_progress_shows_on_a_terminal_only(hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(hf_folder).stderr == ""
    from gptoss_weights.cli import verify as module

    shown: list[str] = []

    class Terminal:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    with module._progress("reading", 2) as advance:
        advance(1)
    monkeypatch.setattr("sys.stderr", Terminal())
    with module._progress("reading", 2) as advance:
        advance(1)
        advance(1)
    assert "reading" in "".join(shown)
    assert "100%" in "".join(shown)


def test_packed_experts_that_the_config_does_not_announce_are_a_problem(hf_folder: Path) -> None:
    edit_json(hf_folder / "config.json", lambda document: document.pop("quantization_config"))
    result = verify(hf_folder)
    assert result.exit_code == 3
    assert f"{hf_folder / 'config.json'}: quantization_config does not announce the packed experts" in result.stderr
    assert 'expected "quantization_config": {"quant_method": "mxfp4"}, found nothing. Take the' in result.stderr
    assert result.stderr.endswith("or convert the checkpoint again.\n")


def test_quantization_of_another_kind_is_a_problem(hf_folder: Path) -> None:
    edit_json(hf_folder / "config.json", lambda document: document["quantization_config"].update(quant_method="awq"))
    result = verify(hf_folder)
    assert result.exit_code == 3
    assert "awq" in result.stderr


def test_wrong_total_size_is_a_warning(hf_folder: Path) -> None:
    right = json.loads((hf_folder / INDEX).read_text())["metadata"]["total_size"]
    edit_json(hf_folder / INDEX, lambda document: document["metadata"].update(total_size=1))
    result = verify(hf_folder, "--json")
    assert result.exit_code == 0
    expected = f"{hf_folder / INDEX}: total_size is wrong, expected {right} bytes, found 1"
    assert json.loads(result.stdout)["warnings"] == [expected]
    assert result.stderr == f"warning: {expected}\n"


def test_file_that_the_index_does_not_list_is_a_warning(hf_folder: Path) -> None:
    (hf_folder / "adapter.safetensors").write_bytes(shards(hf_folder)[0].read_bytes())
    result = verify(hf_folder)
    assert result.exit_code == 0
    assert f"warning: {hf_folder}/adapter.safetensors: the index does not list this file" in result.stderr
