"""The commands are one family: help with examples, one version, the same exit codes and options."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

OK, USAGE, BAD_INPUT = 0, 2, 3  # gptoss_weights.cli_errors.ExitCode
READS_A_MISSING_FOLDER = {
    "gptoss-weights": ["inspect", "{missing}"],
    "gptoss-model": ["generate", "{missing}", "--tokens", "1,2,3"],
    "gptoss-onnx": ["export", "{missing}", "{output}"],
    "gptoss-parity": ["compare", "{missing}", "{missing}"],
    "gptoss-train": ["export", "{missing}", "{output}"],
}


def commands(package: str) -> dict[str, click.Command]:
    """Every command by its words behind the package's name, those of groups as `golden make`."""
    group = importlib.import_module(f"{package.replace('-', '_')}.cli").main
    return dict(inner_commands(group, ""))


def inner_commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from inner_commands(command, f"{prefix}{name} ")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name(command[0])
    environment = os.environ | {"COLUMNS": "120"}
    return subprocess.run([str(script), *command[1:]], capture_output=True, text=True, env=environment, check=False)


def test_help_lists_every_command_with_its_sentence(package):
    result = run(package, "--help")
    assert result.returncode == OK
    for name, command in commands(package).items():
        assert name.partition(" ")[0] in result.stdout
        assert command.get_short_help_str(), name


def test_every_command_shows_an_example_of_itself(package):
    for name, command in commands(package).items():
        lines = [line.strip() for line in command.get_help(click.Context(command)).splitlines()]
        assert any(line.startswith(f"{package} {name}") for line in lines), name
        assert not any("\\b" in line for line in lines), name


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


def test_both_engines_spell_their_options_alike():
    """What generation is told is told alike; how an engine computes is its own."""
    of_jax = {"checkpoint", "--config", "--dtype", "--mesh", "--scan-layers", "--compilation-cache"}
    of_jax |= {"--attention", "--moe", "--experts"}
    of_onnx = {"model", "--mode", "--threads"}
    for theirs, ours in (("generate", "run"), ("chat", "chat")):
        model, onnx = (
            {spelling for parameter in commands(package)[name].params for spelling in parameter.opts}
            for package, name in (("gptoss-model", theirs), ("gptoss-onnx", ours))
        )
        assert (model - onnx, onnx - model) == (of_jax, of_onnx), ours


def test_page_of_a_package_shows_every_command(package):
    path = Path(__file__).parent.parent / "docs" / "generated.py"
    spec = importlib.util.spec_from_file_location("generated", path)
    generated = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generated)
    page = generated.on_page_markdown(f"<!-- generated: commands {package} -->")
    for name, command in commands(package).items():
        assert f"### `{package} {name}`" in page
        assert f"Usage: {package} {name} " in page
        assert all(option.opts[0] in page for option in command.params if isinstance(option, click.Option))
