"""Configs of another model, misspelled, with a trap that transformers would fall into, or made to exhaust memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B
from gptoss_weights.testing import write_hollow_checkpoint

type Broken = Callable[[str], Path]
type Refused = Callable[..., None]
type Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]
type Config = dict[str, Any]


def new_spelling(config: Config) -> Config:
    """As transformers 5 writes it: `rope_theta` inside `rope_parameters`, and no `rope_scaling`."""
    config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}
    return config["rope_parameters"]  # type: ignore[no-any-return]


# Name → kind of checkpoint, how its config changes, and the words behind "<folder>/config.json: ".
WRONG: dict[str, tuple[str, Callable[[Config], object], str]] = {
    "leftover quantization_config": (
        "hf-bf16",
        lambda config: config.update(quantization_config={"quant_method": "mxfp4"}),
        "quantization_config says that the experts are packed, but they are plain matrices; "
        "expected no quantization_config. Remove it from the config",
    ),
    "lost truncate, old spelling": (
        "hf",
        lambda config: config["rope_scaling"].pop("truncate"),
        "rope_scaling.truncate must be false, and is missing. Correct the config, or give another with --config.",
    ),
    "lost truncate, new spelling": (
        "hf",
        lambda config: new_spelling(config).pop("truncate"),
        "rope_parameters.truncate must be false, and is missing. Correct the config",
    ),
    "truncate: true": (
        "hf",
        lambda config: config["rope_scaling"].update(truncate=True),
        "rope_scaling.truncate must be false, not True. Correct the config",
    ),
    "no rotary settings": (
        "hf",
        lambda config: config.pop("rope_scaling"),
        "rope_scaling (or rope_parameters) is missing. Correct the config",
    ),
    "another kind of scaling, old spelling": (
        "hf",
        lambda config: config["rope_scaling"].update(rope_type="linear"),
        "rope_scaling.rope_type must be 'yarn', not 'linear'. Correct the config",
    ),
    "another kind of scaling, new spelling": (
        "hf",
        lambda config: new_spelling(config).update(rope_type="linear"),
        "rope_parameters.rope_type must be 'yarn', not 'linear'. Correct the config",
    ),
    "both spellings that disagree": (
        "hf",
        lambda config: config.update(rope_parameters={**config["rope_scaling"], "factor": 8.0}),
        "rope_parameters and rope_scaling contradict each other",
    ),
    "settings that are no object": (
        "hf",
        lambda config: config.update(rope_scaling=[1]),
        "rope_scaling must be an object, not [1]",
    ),
    "missing key": ("openai", lambda config: config.pop("sliding_window"), "sliding_window is missing. Correct"),
    "misspelled key": (
        "openai",
        lambda config: config.update(slidding_window=config.pop("sliding_window")),
        "sliding_window is missing (is 'slidding_window' a misspelling?). Correct the config",
    ),
    "mistyped value": (
        "openai",
        lambda config: config.update(head_dim="18"),
        "head_dim must be a whole number, not '18'. Correct the config",
    ),
    "infinite number": (
        "openai",
        lambda config: config.update(rope_theta=10**400),
        "the config is not possible: rope_theta must be a finite number above 1 in float32, not 1e400",
    ),
    "layers beyond all measure": (
        "openai",
        lambda config: config.update(num_hidden_layers=10**9),
        "the config is not possible: num_hidden_layers must lie between 1 and 4096, not 1e+09",
    ),
    "value of a megabyte": (
        "hf",
        lambda config: config["rope_scaling"].update(rope_type="x" * 2**20),
        "rope_scaling.rope_type must be 'yarn', not 'xxxxxxxxxx",
    ),
    "value that steers a terminal": (
        "hf",
        lambda config: config["rope_scaling"].update(rope_type="\x1b[2J\n"),
        "rope_scaling.rope_type must be 'yarn', not '\\x1b[2J\\n'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_config_is_refused_in_one_sentence(
    name: str, broken: Broken, edit_document: Edit, assert_refused: Refused
) -> None:
    kind, change, words = WRONG[name]
    folder = broken(kind)
    edit_document(folder / "config.json", change)
    assert_refused(folder, [f"error: {folder / 'config.json'}: {words}"])


NO_CONFIG: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", "the config is not valid JSON (Expecting property name"),
    "not UTF-8": (b'{"a": "\xff"}', "the config is not UTF-8; found invalid start byte"),
    "no object": (b"[]", "the config is not a JSON object; found list"),
    "NaN": (b'{"rope_theta": NaN}', "the config is not valid JSON (NaN is no JSON number)"),
    "duplicate key": (b'{"a": 1, "a": 2}', "the config is not valid JSON (the key 'a' stands there twice)"),
    "number of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "the config is not valid JSON (Exceeds the limit (4300"),
    "nested 100 000 deep": (b'{"a":' * 100_000, "the config is nested too deeply; expected at most 100 levels"),
    "lists 200 deep": (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "the config is nested too deeply; expected at most"),
    "two million values": (
        b'{"a":[' + b"1," * 2_000_000 + b"1]}",
        "the config has too many values; expected at most 1000000; found about 2000002",
    ),
    "empty": (b"", "the file is empty. Download it again."),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git-LFS pointer, not the config."),
    "HTML page": (b"<html><body>Sign in", "the file is an HTML page, not the config. Download it again; a login may"),
}


@pytest.mark.parametrize("name", NO_CONFIG)
def test_what_is_no_config_is_called_by_its_name(name: str, broken: Broken, assert_refused: Refused) -> None:
    content, words = NO_CONFIG[name]
    folder = broken("openai")
    (folder / "config.json").write_bytes(content)
    assert_refused(folder, [f"error: {folder / 'config.json'}: {words}"])


def test_missing_config_asks_for_its_place(broken: Broken, assert_refused: Refused) -> None:
    folder = broken("openai")
    (folder / "config.json").unlink()
    assert_refused(folder, [f"error: {folder / 'config.json'}: the config is not there. Give its place with --config."])


@pytest.mark.parametrize("kind", ["openai", "hf"])
def test_config_of_20b_beside_weights_of_120b_is_asked_about(
    kind: str, tmp_path: Path, assert_refused: Refused
) -> None:
    folder = write_hollow_checkpoint(tmp_path / "checkpoint", GPT_OSS_120B)
    document = GPT_OSS_20B.to_openai() if kind == "openai" else GPT_OSS_20B.to_huggingface()
    (folder / "config.json").write_text(json.dumps(document))
    words = [
        f"{folder}: ",
        "mlp.router.weight has the wrong shape, expected BF16 [32, 2880], found BF16 [128, 2880]; ",
        "Is this the config of these weights?",
    ]
    assert_refused(folder, words)


def test_either_spelling_of_the_rotary_settings_is_read(
    broken: Broken, edit_document: Edit, run: Callable[..., Any]
) -> None:
    folder = broken("hf")
    old = run("verify", folder)
    edit_document(folder / "config.json", new_spelling)
    new = run("verify", folder)
    assert (old.exit_code, new.exit_code, new.stdout) == (0, 0, old.stdout)


def test_config_of_nothing_but_unknown_keys_is_read_in_bounded_time(
    broken: Broken, edit_document: Edit, run: Callable[..., Any]
) -> None:
    folder = broken("openai")
    edit_document(folder / "config.json", lambda config: config.update({f"key{i}": i for i in range(50_000)}))
    result = run("inspect", folder)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert len(lines) == 101
    assert lines[-1] == f"warning: {folder / 'config.json'}: 49900 more unknown config keys are kept but not used"
