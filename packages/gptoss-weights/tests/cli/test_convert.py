"""The commands convert and random: what they print, write, plan and refuse."""

import json
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from gptoss_weights import open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_packed_layouts_are_written_without_a_word_of_errors(openai_folder: Path, tmp_path: Path) -> None:
    result = run("convert", openai_folder, tmp_path / "out", "--to", "hf")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tmp_path / 'out'}: hf, ")
    assert open_checkpoint(tmp_path / "out").digest() == open_checkpoint(openai_folder).digest()


def test_format_is_that_of_the_source_unless_said(hf_folder: Path, tmp_path: Path) -> None:
    assert run("convert", hf_folder, tmp_path / "out", "--layers", 2).exit_code == 0
    opened = open_checkpoint(tmp_path / "out")
    assert (opened.format, opened.config.num_hidden_layers) == ("hf", 2)


def test_dry_run_lists_files_and_writes_nothing(openai_folder: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run("convert", openai_folder, tmp_path / "out", "--to", "hf", "--max-shard-size", "0.2MB", "--dry-run")
    assert result.exit_code == 0
    assert "model-00000-of-0000" in result.stdout
    assert "bytes in all" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_json_tells_files_and_errors(openai_folder: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    result = run("convert", openai_folder, tmp_path / "out", "--to", "hf-bf16", "--json", *flags)
    document = json.loads(result.stdout)
    assert document["format"] == "hf-bf16"
    assert document["dry_run"] is bool(flags)
    assert document["bytes"] == sum(document["files"].values())
    assert document["quantization"] == {}
    assert (tmp_path / "out").exists() is not bool(flags)


def test_error_of_each_tensor_that_is_packed_is_reported(tmp_path: Path) -> None:
    save_checkpoint(random_checkpoint(tiny_config(num_hidden_layers=1), seed=0), tmp_path / "plain", format="hf-bf16")
    exact = run("convert", tmp_path / "plain", tmp_path / "exact", "--to", "openai")
    assert "2 tensors packed without any error" in exact.stdout
    file = tmp_path / "plain" / "model.safetensors"
    arrays = safetensors.numpy.load_file(file)
    name = "model.layers.0.mlp.experts.down_proj"
    arrays[name] = np.random.default_rng(0).standard_normal(arrays[name].shape).astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file(arrays, file)
    errors = {}
    for scale in ("max", "mse"):
        text = run("convert", tmp_path / "plain", tmp_path / f"{scale}-text", "--to", "hf", "--scale", scale).stdout
        assert "1 tensors packed without any error" in text
        assert f"{name}  relative L2 0.1" in text
        document = json.loads(
            run("convert", tmp_path / "plain", tmp_path / scale, "--to", "hf", "--scale", scale, "--json").stdout
        )
        errors[scale] = document["quantization"][name]["relative_l2"]
    assert errors["mse"] < errors["max"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("out", "--to", "gguf"), "Invalid value for '--to'"),
        (("out", "--layers", "9"), "of 4 layers, between 1 and all can be kept, not 9"),
        (("out", "--experts", "1"), "of 7 experts, between 3"),
        (("out", "--to", "flax"), "the target of flax is a file that ends with .msgpack"),
        (("out", "--to", "openai", "--dtype", "float32"), "openai holds plain arrays in bfloat16, not float32"),
        (("out", "--max-shard-size", "lots"), "'lots' is no size such as 5GB, 500MB or 4GiB"),
        (("out", "--max-shard-size", "0"), "'0' is less than a byte"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    openai_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("convert", openai_folder, *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_bad_input_is_exit_code_3_and_one_sentence(openai_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorstore", reason="the extra orbax is not installed")
    occupied = run("convert", openai_folder, tmp_path, "--to", "hf")
    assert (occupied.exit_code, occupied.stdout) == (ExitCode.BAD_INPUT, "")
    assert "the target is not empty" in occupied.stderr
    url = run("convert", openai_folder, "memory://out/", "--to", "hf")
    assert url.exit_code == ExitCode.BAD_INPUT
    assert "memory://out/: only Orbax trees can be written to a URL" in url.stderr
    odd = run("convert", openai_folder, tmp_path / "out", "--to", "orbax-scanned", "--layers", 3)
    assert odd.exit_code == ExitCode.BAD_INPUT
    assert "odd number of layers" in odd.stderr


def test_url_is_written_and_read(openai_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorstore", reason="the extra orbax is not installed")
    assert run("convert", openai_folder, "memory://tree/", "--to", "orbax-unscanned").exit_code == 0
    assert run("convert", "memory://tree/", tmp_path / "back", "--to", "openai").exit_code == 0
    assert open_checkpoint(tmp_path / "back").config == open_checkpoint(openai_folder).config


@pytest.mark.parametrize(
    ("text", "nbytes"), [("1", 1), ("2kB", 2000), ("2 KiB", 2048), ("4.8GB", 4_800_000_000), ("1tib", 2**40)]
)
def test_sizes_are_read_with_their_units(text: str, nbytes: int) -> None:
    from gptoss_weights.cli.convert import convert

    context = convert.make_context("convert", ["a", "b", "--max-shard-size", text])
    assert context.params["max_shard_size"] == nbytes


@pytest.mark.parametrize("format_name", ["openai", "hf", "hf-bf16"])
def test_random_weights_are_those_of_the_seed(tmp_path: Path, format_name: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tiny_config().to_openai()))
    result = run("random", tmp_path / "out", "--config", config, "--seed", 5, "--to", format_name)
    assert result.exit_code == 0, result.stderr
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'out'))}: {format_name}, \d+( \d{{3}})+ bytes\n", result.stdout)
    save_checkpoint(random_checkpoint(tiny_config(), seed=5), tmp_path / "expected", format=format_name)
    assert open_checkpoint(tmp_path / "out").digest() == open_checkpoint(tmp_path / "expected").digest()


def test_random_plans_a_full_size_without_writing_it(tmp_path: Path) -> None:
    from gptoss_weights import GPT_OSS_20B

    config = tmp_path / "config.json"
    config.write_text(json.dumps(GPT_OSS_20B.to_openai()))
    result = run("random", tmp_path / "out", "--config", config, "--dry-run", "--json")
    document = json.loads(result.stdout)
    assert document["files"]["model.safetensors"] == 13_761_300_984
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_random_without_a_config_is_wrong_usage(tmp_path: Path) -> None:
    assert run("random", tmp_path / "out").exit_code == ExitCode.USAGE
    missing = run("random", tmp_path / "out", "--config", tmp_path / "absent.json")
    assert missing.exit_code == ExitCode.BAD_INPUT


def test_finished_target_is_not_written_over(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", format="hf")
    assert run("convert", source, tmp_path / "out", "--to", "openai", "--no-fsync").exit_code == 0
    again = run("convert", source, tmp_path / "out", "--to", "openai")
    assert again.exit_code == ExitCode.BAD_INPUT
    assert "the target is not empty. Choose another, or remove it first." in again.stderr
