import json
import shutil

import pytest
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_weights import random_checkpoint
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, DEMO_PROMPT, demo_checkpoint
from gptoss_weights.testing import tiny_config


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo checkpoint as ONNX; it has a tokenizer."""
    return export_onnx(demo_checkpoint(), tmp_path_factory.mktemp("demo") / "onnx")


def test_json_has_prompt_new_ids_text_and_timings(run_command, exported):
    result = run_command("run", exported, "--tokens", "1,2,3", "--max-new-tokens", 4, "--json", "--threads", 1)
    document = json.loads(result.stdout)
    assert document["prompt_tokens"] == [1, 2, 3]
    assert [document["tokens"]] == OnnxModel.open(exported).generate([[1, 2, 3]], max_new_tokens=4)
    assert document["text"] is None
    assert document["timings"].keys() == {"load_seconds", "generate_seconds", "tokens_per_second"}


def test_without_a_tokenizer_the_new_ids_are_printed(run_command, exported):
    result = run_command("run", exported, "--tokens", "1,2,3", "--max-new-tokens", 4)
    [expected] = OnnxModel.open(exported).generate([[1, 2, 3]], max_new_tokens=4)
    assert result.stdout == ",".join(map(str, expected)) + "\n"
    assert "4 tokens in" in result.stderr


def test_text_goes_in_and_comes_out(run_command, demo):
    pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    from gptoss_weights.text import load_tokenizer

    tokenizer = load_tokenizer(demo)
    document = json.loads(run_command("run", demo, "--prompt", DEMO_PROMPT, "--max-new-tokens", 8, "--json").stdout)
    assert document["prompt_tokens"] == tokenizer.encode(DEMO_PROMPT)
    assert document["text"] == tokenizer.decode(document["tokens"]) != ""


def test_generation_stops_at_the_models_ids_unless_they_are_ignored(run_command, exported, copied, monkeypatch):
    free = OnnxModel.open(copied).generate([[1, 2, 3]], max_new_tokens=6)[0]
    stop = free[2]
    import onnx

    model = onnx.load_model(copied / "model.onnx", load_external_data=False)
    for entry in model.metadata_props:
        if entry.key == "gptoss.eos_token_ids":
            entry.value = json.dumps([stop])
    onnx.save_model(model, copied / "model.onnx")
    options = ["--tokens", "1,2,3", "--max-new-tokens", 6, "--json"]
    assert json.loads(run_command("run", copied, *options).stdout)["tokens"] == free[: free.index(stop) + 1]
    assert json.loads(run_command("run", copied, *options, "--ignore-eos").stdout)["tokens"] == free


@pytest.mark.parametrize("arguments", [[], ["--prompt", "a", "--tokens", "1"], ["--tokens", "1,a"], ["--tokens", ""]])
def test_either_text_or_ids_are_a_must(run_command, arguments, exported):
    assert run_command("run", exported, *arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("1,,2", "'' is not a token id"),
        ("9" * 5000, "is not a token id"),
        ("1,99999", "token id 99999 at place 1 is not in the vocabulary"),
    ],
    ids=["nothing", "5000 digits", "unknown"],
)
def test_wrong_ids_are_a_usage_error(run_command, tokens, words, exported):
    result = run_command("run", exported, "--tokens", tokens)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a"], "there is no tokenizer.json"),
    ],
)
def test_bad_input_is_one_sentence_and_its_code(run_command, arguments, message, exported):
    result = run_command("run", exported, *arguments)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_tokenizer_of_another_model_is_refused(run_command, copied):
    pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    shutil.copy(DEMO_CHECKPOINT_PATH / "tokenizer.json", copied)
    result = run_command("run", copied, "--prompt", "zzz zzz qq")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "the tokenizer does not belong to these weights; expected ids below the vocabulary size" in result.stderr


def test_a_folder_without_a_model_is_bad_input(run_command, tmp_path):
    result = run_command("run", tmp_path, "--tokens", "1")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "there is no model.onnx" in result.stderr


def test_a_stream_prints_the_text_of_the_whole(run, folder):
    options = ["--prompt", "abc", "--max-new-tokens", 6, "--temperature", 1, "--seed", 3]
    whole, streamed = run("run", folder, *options), run("run", folder, *options, "--stream")
    assert whole.exit_code == streamed.exit_code == 0, streamed.output
    assert streamed.stdout == whole.stdout
    assert "6 tokens in" in streamed.stderr


def test_a_stream_without_a_tokenizer_prints_ids(run_command, exported):
    options = ["--tokens", "1,2", "--max-new-tokens", 3]
    assert run_command("run", exported, *options, "--stream").stdout == run_command("run", exported, *options).stdout


def test_equal_seeds_draw_equal_tokens_and_others_do_not(run_command, exported):
    def drawn(*more):
        options = ["--tokens", "1,2,3", "--max-new-tokens", 12, "--temperature", 1, "--json", *more]
        return json.loads(run_command("run", exported, *options).stdout)["tokens"]

    assert drawn("--seed", 5) == drawn("--seed", 5) != drawn("--seed", 6)
    assert drawn("--top-k", 1) == OnnxModel.open(exported).generate([[1, 2, 3]], max_new_tokens=12)[0]


def test_log_probabilities_are_reported_for_each_new_token(run_command, exported):
    options = ["--tokens", "1,2,3", "--max-new-tokens", 4, "--top-logprobs", 2]
    document = json.loads(run_command("run", exported, *options, "--json").stdout)
    assert len(document["logprobs"]) == 4
    for token, logprob, top in zip(document["tokens"], document["logprobs"], document["top_logprobs"], strict=True):
        assert top[0] == {"token": token, "logprob": logprob}
        assert len(top) == 2
        assert top[1]["logprob"] < logprob < 0
    lines = run_command("run", exported, *options).stdout.splitlines()
    assert len(lines) == 1 + 4 * 3


def test_pieces_of_the_prompt_change_nothing(run_command, exported):
    options = ["--tokens", ",".join(map(str, range(30))), "--max-new-tokens", 4, "--json"]
    whole, pieces = (
        json.loads(run_command("run", exported, *options, *more).stdout)["tokens"]
        for more in ([], ["--prefill-length", 7])
    )
    assert pieces == whole


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "turbo"], "mode turbo needs an export with profile fast, and this one is portable"),
        (["--max-length", 4, "--max-new-tokens", 2], "make 5, more than max_length 4"),
        (["--top-logprobs", 100_000], "top_logprobs is at least 0 and at most"),
        (["--top-p", "0.5"], "Without --temperature"),
        (["--stream", "--json"], "--stream prints the text as it comes"),
        (["--stream", "--logprobs"], "--stream prints the text as it comes"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(run_command, exported, arguments, words):
    result = run_command("run", exported, "--tokens", "1,2,3", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr


def test_turbo_runs_an_export_of_profile_fast(fast_runtime, run_command, tmp_path):
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=32), seed=1), tmp_path / "fast", profile="fast")
    for mode in ("exact", "turbo"):
        options = ["--tokens", "1,2,3", "--max-new-tokens", 4, "--json", "--mode", mode]
        assert len(json.loads(run_command("run", folder, *options).stdout)["tokens"]) == 4
