"""Exported models for the commands: of the vocabulary of the demo's tokenizer, with it and without."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gptoss_onnx import export_onnx
from gptoss_onnx.cli import main
from gptoss_weights import random_checkpoint
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_checkpoint
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="session")
def bare_folder(tmp_path_factory) -> Path:
    """A layer of each kind, without a tokenizer."""
    config = tiny_config(num_hidden_layers=2, vocab_size=demo_checkpoint().config.vocab_size)
    return export_onnx(random_checkpoint(config, seed=1), tmp_path_factory.mktemp("exported") / "bare")


@pytest.fixture(scope="session")
def folder(bare_folder, tmp_path_factory) -> Path:
    """The same with the demo's tokenizer, which has Harmony's special tokens."""
    pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    folder = tmp_path_factory.mktemp("exported") / "talking"
    shutil.copytree(bare_folder, folder)
    shutil.copy(DEMO_CHECKPOINT_PATH / "tokenizer.json", folder)
    return folder


@pytest.fixture
def run():
    """Runs `gptoss-onnx` with click's own streams, so that standard input can be given."""

    def invoke(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)

    return invoke
