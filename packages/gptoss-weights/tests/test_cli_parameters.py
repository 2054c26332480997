from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from gptoss_weights.cli_parameters import CHECKPOINT_PATH, OUTPUT_PATH


def run(argument: str, kind: click.Path = CHECKPOINT_PATH) -> Result:
    @click.command()
    @click.argument("checkpoint", type=kind)
    def command(checkpoint: Path | str) -> None:
        click.echo(repr(checkpoint), nl=False)

    return CliRunner().invoke(command, [argument])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("gpt-oss-20b/original", Path("gpt-oss-20b/original")),
        ("model.msgpack", Path("model.msgpack")),
        ("file:///data/run%201", Path("/data/run 1")),
        ("gs://bucket/run/0/items", "gs://bucket/run/0/items"),
    ],
)
def test_paths_become_paths_and_urls_stay_text(argument: str, value: Path | str) -> None:
    assert run(argument).stdout == repr(value)


@pytest.mark.parametrize("kind", [CHECKPOINT_PATH, OUTPUT_PATH])
def test_empty_argument_is_a_usage_error_and_not_the_current_folder(kind: click.Path) -> None:
    result = run("", kind)
    assert result.exit_code == 2
    assert "Invalid value for 'CHECKPOINT': it is empty; write . for the current folder" in result.stderr


def test_shells_complete_it_with_files() -> None:
    [item] = CHECKPOINT_PATH.shell_complete(click.Context(click.Command("x")), click.Argument(["x"]), "gpt")
    assert (item.value, item.type) == ("gpt", "file")
