"""Tiny checkpoints for all commands: one model, so that what one test compiles serves the next."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gptoss_model.cli import main
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

TOKENIZER = "tokenizer.json"


@pytest.fixture(scope="session")
def bare_folder(tmp_path_factory) -> Path:
    """A layer of each kind, without a tokenizer, for the vocabulary of the demo's."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    vocab_size = demo_checkpoint().config.vocab_size
    return write_tiny_checkpoint(folder, format="openai", num_hidden_layers=2, vocab_size=vocab_size)


@pytest.fixture(scope="session")
def folder(bare_folder, tmp_path_factory) -> Path:
    """The same with the demo's tokenizer, which has Harmony's special tokens."""
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    shutil.copytree(bare_folder, folder)
    shutil.copy(DEMO_CHECKPOINT_PATH / TOKENIZER, folder)
    return folder


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    """Keeps the commands away from the user's own folder of caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches"))


@pytest.fixture
def run(run_module):
    return run_module


@pytest.fixture(scope="session")
def run_module():
    def invoke(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)

    return invoke
