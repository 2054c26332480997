"""`verify --against`: 0 if two checkpoints are equal, 3 and a table if not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gptoss_weights import StoredArray, StoredMxfp4, open_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.testing import write_tiny_checkpoint

type MakeArtefact = Callable[[str], Path]
KINDS = ["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]
BIAS = "model.layers.1.self_attn.q_proj.bias"
EXPERTS = "model.layers.0.mlp.experts.down_proj"


def against(a: Path, b: Path, *options: object) -> Result:
    return CliRunner().invoke(main, ["verify", str(a), "--against", str(b), *map(str, options)])


def poke(array: StoredArray, position: int, raw: bytes) -> None:
    content = bytearray(array.path.read_bytes())
    start = array.offset + position * array.dtype.itemsize
    content[start : start + len(raw)] = raw
    array.path.write_bytes(content)


@pytest.mark.parametrize(("kind", "other"), [*zip(KINDS, KINDS[1:] + KINDS[:1], strict=True), ("orbax-scanned", "hf")])
def test_formats_of_the_same_weights_are_equal(artefact: MakeArtefact, kind: str, other: str) -> None:
    a, b = artefact(kind), artefact(other)
    result = against(a, b)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{a} ({kind}) and {b} ({other}): equal, 37 tensors\n"


def test_differing_tensors_are_a_table_and_exit_code_3(artefact: MakeArtefact) -> None:
    a, b = artefact("hf"), artefact("flax")
    bias = open_checkpoint(a).stored(BIAS)
    assert isinstance(bias, StoredArray)
    poke(bias, 17, b"\x80\x3f")
    result = against(a, b)
    assert result.exit_code == 3
    assert result.stderr == f"error: {a} against {b}: it differs in 1 of 37 tensors and 0 numbers of the config\n"
    head, row = result.stdout.splitlines()
    assert head.split() == ["tensor", "dtypes", "differing", "max", "abs", "rel.", "L2", "first", "at"]
    assert row.split()[:4] == [BIAS, "bfloat16", "bfloat16", "1"]
    value = float(open_checkpoint(b).read_array(BIAS)[17])
    assert row.endswith(f"[17]: 1 and {value:g}")


def test_packed_and_decoded_experts_are_compared_by_value(artefact: MakeArtefact) -> None:
    a, b = artefact("openai"), artefact("orbax-unscanned")
    stored = open_checkpoint(a).stored(EXPERTS)
    assert isinstance(stored, StoredMxfp4)
    poke(stored.blocks, 0, b"\x70")
    document = json.loads(against(a, b, "--json").stdout)
    assert not document["equal"]
    assert document["formats"] == ["openai", "orbax-unscanned"]
    (difference,) = document["differences"]
    assert difference["name"] == EXPERTS
    assert difference["dtypes"] == ["MXFP4", "bfloat16"]
    assert 1 <= difference["differing"] <= 2
    assert difference["first_index"] in ([0, 0, 0], [0, 0, 1])
    assert document["config"] == {}


def test_json_of_equal_checkpoints(artefact: MakeArtefact) -> None:
    a, b = artefact("hf"), artefact("openai")
    result = against(a, b, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "checkpoint": str(a),
        "against": str(b),
        "formats": ["hf", "openai"],
        "rtol": 0.0,
        "atol": 0.0,
        "equal": True,
        "config": {},
        "tensors": 37,
        "encoded_otherwise": [],
        "differences": [],
    }


def test_tolerance_excuses_what_it_covers(artefact: MakeArtefact) -> None:
    a, b = artefact("hf"), artefact("openai")
    bias = open_checkpoint(a).stored(BIAS)
    assert isinstance(bias, StoredArray)
    content = bias.path.read_bytes()[bias.offset : bias.offset + 2]
    poke(bias, 0, bytes([content[0] ^ 1, content[1]]))
    assert against(a, b).exit_code == 3
    result = against(a, b, "--rtol", "0.01")
    assert result.exit_code == 0
    assert "equal within rtol 0.01 and atol 0, 37 tensors" in result.stdout
    assert against(a, b, "--rtol", "1e-6").exit_code == 3


def test_other_geometry_is_said_number_by_number(artefact: MakeArtefact, tmp_path: Path) -> None:
    a = artefact("hf")
    b = write_tiny_checkpoint(tmp_path / "other", format="hf", num_hidden_layers=3)
    result = against(a, b)
    assert result.exit_code == 3
    assert "config: num_hidden_layers is 2 and 3\n" in result.stdout
    assert "model.layers.2.self_attn.sinks" in result.stdout
    assert "only in B" in result.stdout
    assert "it differs in 17 of 54 tensors and 1 numbers of the config" in result.stderr


def test_many_differences_are_cut_short(artefact: MakeArtefact, tmp_path: Path) -> None:
    a = write_tiny_checkpoint(tmp_path / "a", format="hf", seed=1)
    b = write_tiny_checkpoint(tmp_path / "b", format="hf", seed=2)
    result = against(a, b)
    count = len(json.loads(against(a, b, "--json").stdout)["differences"])
    assert count > 40
    assert len(result.stdout.splitlines()) == 1 + 40 + 1
    assert result.stdout.endswith(f"and {count - 40} more; see --json\n")


def test_config_of_the_other_may_stand_elsewhere(artefact: MakeArtefact, tmp_path: Path) -> None:
    a, b = artefact("hf"), artefact("orbax-scanned")
    config = (b / "config.json").rename(tmp_path / "config.json")
    assert against(a, b).exit_code == 3
    assert against(a, b, "--against-config", config).exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--against", "b", "--manifest", "m"], "--against compares with a checkpoint; it goes with no manifest"),
        (["--against", "b", "--write-manifest"], "--against compares with a checkpoint; it goes with no manifest"),
        (["--rtol", "0.1"], "--against-config, --rtol and --atol need --against"),
        (["--against-config", "c"], "--against-config, --rtol and --atol need --against"),
        (["--against", "b", "--atol", "-1"], "-1.0 is not in the range x>=0"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(options: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["verify", "a", *options])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_missing_checkpoint_is_exit_code_3(artefact: MakeArtefact, tmp_path: Path) -> None:
    result = against(artefact("hf"), tmp_path / "nowhere")
    assert (result.exit_code, result.stderr) == (3, f"error: {tmp_path / 'nowhere'}: there is no such folder or file\n")
