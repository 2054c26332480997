"""What every table of bad input needs: sound checkpoints to break, and the three commands that must refuse them."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gptoss_weights import random_checkpoint, save_checkpoint
from gptoss_weights.cli import main
from gptoss_weights.testing import tiny_config

SQUARE = {"hidden_size": 64, "intermediate_size": 64}  # as published, D = F


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind → a checkpoint of one format, made when first asked for; "square …" has D = F, "sharded …" several files."""
    root = tmp_path_factory.mktemp("sound")

    @functools.cache
    def make(kind: str) -> Path:
        format_name = kind.rpartition(" ")[2]
        if format_name.startswith("orbax"):
            pytest.importorskip("tensorstore", reason="the extra [orbax] is not installed")
        config = tiny_config(num_hidden_layers=2, **(SQUARE if "square" in kind else {}))
        folder = root / kind
        folder.mkdir()
        target = folder / "bundle.msgpack" if format_name == "flax" else folder
        limit = 120_000 if "sharded" in kind else None
        save_checkpoint(random_checkpoint(config, seed=1), target, format=format_name, max_shard_bytes=limit)  # type: ignore[arg-type]
        for manifest in folder.glob("*manifest.json"):
            manifest.unlink()  # as if it had been published: nothing but what a reader looks at says what it holds
        return folder

    return make


@pytest.fixture
def broken(sound: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Kind → a copy of its own, to be broken."""
    return lambda kind: Path(shutil.copytree(sound(kind), tmp_path / "checkpoint", symlinks=True))


@pytest.fixture
def assert_refused() -> Callable[..., None]:
    """Runs the commands that a user would meet a checkpoint with; each says the same sentence with exit code 3.

    `convert` leaves nothing behind. `knows_when_read` is of what no header shows: `inspect` is content then.
    """

    def check(path: Path, words: list[str], *options: str, knows_when_read: bool = False) -> None:
        around = sorted(path.parent.rglob("*"))
        target = path.parent / "converted"
        inspected = CliRunner().invoke(main, ["inspect", str(path), *options])
        if knows_when_read:
            assert (inspected.exit_code, inspected.stderr) == (0, "")
        results = {
            **({} if knows_when_read else {"inspect": inspected}),
            "verify": CliRunner().invoke(main, ["verify", str(path), *options]),
            "convert": CliRunner().invoke(main, ["convert", str(path), str(target), "--to", "hf", *options]),
        }
        for command, result in results.items():
            assert result.exit_code == 3, (command, result.output)
            assert result.stdout == "", command
            assert result.stderr.startswith("error: "), command
            assert result.stderr.count("\n") == 1, command
            assert result.stderr.rstrip("\n").isprintable(), command
            assert len(result.stderr) < 4000, command
            for word in words:
                assert word in result.stderr, (command, word, result.stderr)
        assert sorted(path.parent.rglob("*")) == around, "a refused conversion leaves nothing"

    return check


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs a command of `gptoss-weights`."""
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def edit_document() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    """Changes a JSON file in place."""

    def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit
