"""`inspect` describes a checkpoint from its headers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from gptoss_weights import GPT_OSS_20B
from gptoss_weights.cli import main
from gptoss_weights.stored_checkpoint import StoredCheckpoint
from gptoss_weights.testing import tiny_config, write_hollow_checkpoint


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


def bytes_read() -> int:
    """Bytes that this process has asked the system to read so far."""
    try:
        counters = Path("/proc/self/io").read_text().split()
    except OSError:
        pytest.skip("this system does not tell how much a process reads")
    return int(counters[counters.index("rchar:") + 1])


def test_only_headers_are_read_at_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_hollow_checkpoint(tmp_path / "hollow", GPT_OSS_20B)
    monkeypatch.delattr(StoredCheckpoint, "read")  # what stands in no header
    CliRunner().invoke(main, ["inspect", str(folder), "--tensors"])  # imports what it needs
    before = bytes_read()
    result = CliRunner().invoke(main, ["inspect", str(folder), "--tensors"])
    assert bytes_read() - before < 200_000
    assert result.exit_code == 0
    assert "20 914 757 184 (3 608 310 144 active per token)" in result.stdout


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
