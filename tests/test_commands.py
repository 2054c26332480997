"""The commands are one family: help with examples, one version, the same exit codes and options."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

OK, USAGE, BAD_INPUT = 0, 2, 3  # gptoss_weights.cli_errors.ExitCode
READS_A_MISSING_FOLDER = {
    "gptoss-weights": ["inspect", "{missing}"],
    "gptoss-model": ["generate", "{missing}", "--tokens", "1,2,3"],
    "gptoss-onnx": ["export", "{missing}", "{output}"],
    "gptoss-parity": ["compare", "{missing}", "{missing}"],
    "gptoss-train": ["export", "{missing}", "{output}"],
}


def commands(package: str) -> dict[str, click.Command]:
    group = importlib.import_module(f"{package.replace('-', '_')}.cli").main
    context = click.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name(command[0])
    environment = os.environ | {"COLUMNS": "120"}
    return subprocess.run([str(script), *command[1:]], capture_output=True, text=True, env=environment, check=False)


def test_help_lists_every_command_with_its_sentence(package):
    result = run(package, "--help")
    assert result.returncode == OK
    for name, command in commands(package).items():
        assert name in result.stdout
        assert command.get_short_help_str(), name


def test_every_command_shows_an_example_of_itself(package):
    for name, command in commands(package).items():
        lines = [line.strip() for line in command.get_help(click.Context(command)).splitlines()]
        assert any(line.startswith(f"{package} {name}") for line in lines), name


def test_every_option_and_argument_is_explained(package):
    silent = [
        f"{package} {name} {parameter.opts[0]}"
        for name, command in commands(package).items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


def test_version_is_the_packages_own(package, projects):
    result = run(package, "--version")
    assert result.returncode == OK
    assert projects[package]["version"] in result.stdout


def test_unknown_command_is_a_usage_error(package):
    result = run(package, "no-such-command")
    assert result.returncode == USAGE
    assert "Traceback" not in result.stderr


def test_missing_input_is_one_sentence_and_the_code_of_bad_input(package, tmp_path: Path):
    names = {"missing": str(tmp_path / "nowhere"), "output": str(tmp_path / "output")}
    result = run(package, *(part.format(**names) for part in READS_A_MISSING_FOLDER[package]))
    assert result.returncode == BAD_INPUT, result.stderr
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--prompt", "--tokens", "--max-new-tokens", "--ignore-eos", "--json"])
def test_both_engines_spell_an_option_alike(option):
    for package, name in (("gptoss-model", "generate"), ("gptoss-onnx", "run")):
        options = [spelling for parameter in commands(package)[name].params for spelling in parameter.opts]
        assert option in options, f"{package} {name}"
