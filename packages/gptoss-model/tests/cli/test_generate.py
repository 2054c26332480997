import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from gptoss_model import generate, load_model
from gptoss_model.cli import main
from gptoss_weights import open_checkpoint
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.testing import write_tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny", format="openai", num_hidden_layers=2)


def run(*arguments):
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


def test_json_holds_the_new_ids_of_generate_and_no_text_without_tokenizer(folder):
    result = run(folder, "--tokens", "5,6,7", "--max-new-tokens", 4, "--dtype", "float32", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    expected = generate(load_model(open_checkpoint(folder), dtype=np.float32), [[5, 6, 7]], max_new_tokens=4)[0]
    assert report["prompt_tokens"] == [5, 6, 7]
    assert report["tokens"] == expected
    assert report["text"] is None
    assert set(report["timings"]) == {"load_seconds", "generate_seconds", "tokens_per_second"}


def test_ids_are_printed_where_there_is_no_tokenizer(folder):
    result = run(folder, "--tokens", "5,6,7", "--max-new-tokens", 3)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.strip().split(",")) == 3
    assert "3 tokens in" in result.stderr


def test_text_goes_in_and_comes_out_with_the_checkpoints_tokenizer():
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    result = run(DEMO_CHECKPOINT_PATH, "--prompt", "We the People", "--max-new-tokens", 5, "--ignore-eos", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert len(report["tokens"]) == 5
    assert isinstance(report["text"], str)


@pytest.mark.parametrize("arguments", [(), ("--prompt", "a", "--tokens", "1")])
def test_exactly_one_kind_of_prompt_is_wanted(folder, arguments):
    result = run(folder, *arguments)
    assert result.exit_code == 2
    assert "either --prompt or --tokens" in result.stderr


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("1,x", "'x' is not a token id"),
        ("1,,2", "'' is not a token id"),
        ("9" * 5000, "is not a token id"),
        ("1,211", "token id 211 at place 1 is not in the vocabulary, 0 … 210"),
        ("", "not a token id"),
    ],
)
def test_wrong_ids_are_a_usage_error(folder, tokens, words):
    result = run(folder, "--tokens", tokens)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr) < 400


def test_missing_checkpoint_is_bad_input(tmp_path):
    result = run(tmp_path / "nothing", "--tokens", "1")
    assert result.exit_code == 3
    assert "nothing" in result.stderr


def test_text_without_tokenizer_is_bad_input(folder):
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    result = run(folder, "--prompt", "hello")
    assert result.exit_code == 3
    assert "tokenizer.json" in result.stderr


def test_help_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "\n    gptoss-model generate gpt-oss-20b --prompt" in result.stdout


def test_help_does_not_wait_for_jax():
    script = "import sys; from gptoss_model.cli.generate import generate_command; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
