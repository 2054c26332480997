"""`inspect` describes a checkpoint from its headers."""

import json
from pathlib import Path

from click.testing import CliRunner
from gptoss_weights.cli import main
from gptoss_weights.testing import tiny_config


def test_overview_names_format_counts_and_geometry(openai_folder: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(openai_folder)])
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["format"] == "openai"
    assert lines["head_dim"] == "18"
    assert "active per token" in lines["parameters"]
    assert "MXFP4" in lines["bytes"]
    assert "layernorm" not in result.stdout


def test_table_lists_every_tensor(hf_folder: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(hf_folder), "--tensors"])
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(("model.layers.", "model.", "lm_"))]
    assert len(rows) == 3 + 4 * 17
    assert rows[-2][:4] == ["model.norm.weight", "bfloat16", "[96]", "192"]
    assert rows[-2][4].endswith(".safetensors")


def test_json_is_one_document(hf_folder: Path) -> None:
    document = json.loads(CliRunner().invoke(main, ["inspect", str(hf_folder), "--json"]).stdout)
    assert document["checkpoint"] == str(hf_folder)
    assert document["format"] == "hf"
    assert document["config"] == tiny_config().to_openai()
    assert document["bytes"] == sum(tensor["bytes"] for tensor in document["tensors"])
    assert len(document["tensors"]) == 3 + 4 * 17
    assert set(document["files"]) == {path.name for path in hf_folder.glob("*.safetensors")}


def test_weights_are_not_read(hf_folder: Path, tmp_path: Path) -> None:
    # a file of the right size whose data is a hole: reading it would show zeros, the header is enough
    shard = sorted(hf_folder.glob("*.safetensors"))[0]
    content = shard.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    with shard.open("wb") as file:
        file.write(content[:header])
        file.truncate(len(content))
    assert CliRunner().invoke(main, ["inspect", str(hf_folder)]).exit_code == 0


def test_config_is_given_apart(openai_folder: Path, tmp_path: Path) -> None:
    config = (openai_folder / "config.json").rename(tmp_path / "other.json")
    result = CliRunner().invoke(main, ["inspect", str(openai_folder)])
    assert result.exit_code == 3
    assert "the config is not there. Give its place with --config." in result.stderr
    result = CliRunner().invoke(main, ["inspect", str(openai_folder), "--config", str(config)])
    assert result.exit_code == 0


def test_unknown_config_key_is_one_warning_line(openai_folder: Path) -> None:
    path = openai_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    result = CliRunner().invoke(main, ["inspect", str(openai_folder)])
    assert result.exit_code == 0
    assert result.stderr == f"warning: {path}: unknown config key 'surprise' is kept but not used\n"


def test_help_has_examples_to_copy() -> None:
    for arguments in (["--help"], ["inspect", "--help"], ["verify", "--help"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert "  gptoss-weights " in result.stdout
    assert (
        "\n    gptoss-weights inspect gpt-oss-20b/original --tensors\n"
        in CliRunner().invoke(main, ["inspect", "--help"]).stdout
    )


def test_version_is_told() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("gptoss-weights, version ")
