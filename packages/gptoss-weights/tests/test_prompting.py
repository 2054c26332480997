"""--prompt and --tokens, and the report, as every command that generates has them."""

import json
import shutil
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from gptoss_weights import CheckpointError, GptOssWarning, MissingDependencyError, open_checkpoint
from gptoss_weights.cli_errors import ErrorMappingGroup
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_checkpoint
from gptoss_weights.prompting import Continuation, Prompt, prompt_options, require_one_prompt, resolve_prompt
from gptoss_weights.testing import write_tiny_checkpoint
from gptoss_weights.text import load_tokenizer

DEMO_VOCABULARY = demo_checkpoint().config.vocab_size


@click.group(cls=ErrorMappingGroup)
def main() -> None:
    pass


@main.command()
@prompt_options
@click.option("--source", type=click.Path(path_type=Path), default=DEMO_CHECKPOINT_PATH)
@click.option("--vocab-size", type=int, default=DEMO_VOCABULARY)
@click.option("--json", "as_json", is_flag=True)
def echo(prompt: str | None, tokens: list[int] | None, source: Path, vocab_size: int, as_json: bool) -> None:
    """Continues every prompt with itself."""
    require_one_prompt(prompt, tokens)
    start = resolve_prompt(prompt, tokens, source=source, vocab_size=vocab_size)
    result = Continuation(
        prompt=start, tokens=start.tokens, finish_reason="stop", load_seconds=0.5, generate_seconds=2.0
    )
    result.show(as_json=as_json, remark="compilation included")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["echo", *map(str, arguments)])


def test_text_becomes_ids_and_text_again() -> None:
    ids = load_tokenizer(DEMO_CHECKPOINT_PATH).encode("We the People")
    result = run("--prompt", "We the People", "--json")
    assert json.loads(result.stdout) == {
        "prompt_tokens": ids,
        "tokens": ids,
        "text": "We the People",
        "finish_reason": "stop",
        "timings": {"load_seconds": 0.5, "generate_seconds": 2.0, "tokens_per_second": len(ids) / 2},
    }


def test_text_goes_to_standard_output_and_timings_to_standard_error() -> None:
    result = run("--prompt", "We the People")
    assert result.stdout == "We the People\n"
    assert result.stderr.endswith(" tokens in 2.00 s, compilation included; loaded in 0.50 s\n")


def test_ids_are_shown_as_text_where_there_is_a_tokenizer_and_as_ids_where_not(tmp_path: Path) -> None:
    ids = load_tokenizer(DEMO_CHECKPOINT_PATH).encode("We the People")
    written = ",".join(map(str, ids))
    assert run("--tokens", written).stdout == "We the People\n"
    assert run("--tokens", written, "--source", tmp_path).stdout == f"{written}\n"


def test_checkpoint_and_tokenizer_file_serve_as_well_as_the_folder() -> None:
    for source in (demo_checkpoint(), DEMO_CHECKPOINT_PATH, DEMO_CHECKPOINT_PATH / "tokenizer.json"):
        prompt = resolve_prompt(None, [1], source=source, vocab_size=DEMO_VOCABULARY)
        assert prompt.tokenizer is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give either --prompt or --tokens."),
        (["--prompt", "a", "--tokens", "1"], "Give either --prompt or --tokens."),
        (["--prompt", ""], "Invalid value for '--prompt': the prompt is empty"),
        (["--tokens", ""], "Invalid value for '--tokens': '' is not a token id; write them as 1,2,3"),
        (["--tokens", "1,-2"], "Invalid value for '--tokens': '-2' is not a token id; write them as 1,2,3"),
        (["--tokens", "1,7", "--vocab-size", 7], "token id 7 at place 1 is not in the vocabulary, 0 … 6"),
    ],
)
def test_wrong_use_is_told(arguments: list[object], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_text_without_a_tokenizer_is_bad_input(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", format="openai", num_hidden_layers=1)
    for source in (folder, open_checkpoint(folder)):
        with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json"):
            resolve_prompt("hello", None, source=source, vocab_size=211)


def test_tokenizer_of_another_model_is_refused() -> None:
    result = run("--prompt", "We the People", "--vocab-size", 3)
    assert result.exit_code == 3
    assert "tokenizer.json: the tokenizer does not belong to these weights; expected ids below" in result.stderr
    assert "Put the tokenizer.json of this model there, or give token ids instead of text." in result.stderr


def test_damaged_tokenizer_stops_text_and_is_a_warning_for_ids(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    result = run("--prompt", "a", "--source", tmp_path)
    assert result.exit_code == 3
    assert "the tokenizer cannot be read" in result.stderr
    result = run("--tokens", "1,2", "--source", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "1,2\n")
    assert result.stderr.startswith(f"warning: {tmp_path / 'tokenizer.json'}: the tokenizer cannot be read")


def test_without_the_extra_ids_go_through_and_text_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(DEMO_CHECKPOINT_PATH / "tokenizer.json", tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert resolve_prompt(None, [1, 2], source=tmp_path, vocab_size=9) == Prompt([1, 2], None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gptoss-weights\[text\]'"):
        resolve_prompt("a", None, source=tmp_path, vocab_size=9)


def test_warning_is_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.warns(GptOssWarning, match="the new ids are shown instead of text"):
        resolve_prompt(None, [1], source=tmp_path, vocab_size=9)
