import json
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import Sampling, complete, load_model
from gptoss_weights import open_checkpoint
from gptoss_weights.text import load_tokenizer

IDS = "5,6,7"
COUNT = 6


@pytest.fixture(scope="module")
def generate(run_module, bare_folder):
    """Runs the command on the prompt 5, 6, 7, in float32."""

    def invoke(*arguments, place=bare_folder):
        return run_module(
            "generate", place, "--tokens", IDS, "--max-new-tokens", COUNT, "--dtype", "float32", *arguments
        )

    return invoke


@pytest.fixture(scope="module")
def expected(bare_folder):
    """What the library completes the same prompt with."""
    model = load_model(open_checkpoint(bare_folder), dtype=jnp.float32)

    def compute(**options):
        return complete(model, [[5, 6, 7]], **({"max_new_tokens": COUNT} | options))[0]

    return compute


def test_json_holds_the_new_ids_and_no_text_without_tokenizer(generate, expected):
    result = generate("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["prompt_tokens"] == [5, 6, 7]
    assert report["tokens"] == expected().tokens
    assert report["text"] is None
    assert report["finish_reason"] == "length"
    assert set(report) == {"prompt_tokens", "tokens", "text", "finish_reason", "timings"}
    assert set(report["timings"]) == {"load_seconds", "generate_seconds", "tokens_per_second"}


def test_ids_are_printed_where_there_is_no_tokenizer(generate, expected):
    result = generate()
    assert result.exit_code == 0, result.output
    assert result.stdout == ",".join(map(str, expected().tokens)) + "\n"
    assert f"{COUNT} tokens in" in result.stderr


def test_text_goes_in_and_comes_out_with_the_checkpoints_tokenizer(run, folder, expected):
    options = ["--max-new-tokens", COUNT, "--dtype", "float32"]
    prompt = load_tokenizer(folder).decode([5, 6, 7])
    report = json.loads(run("generate", folder, "--prompt", prompt, *options, "--json").stdout)
    assert report["prompt_tokens"] == [5, 6, 7]
    assert report["text"] == load_tokenizer(folder).decode(expected().tokens)
    assert run("generate", folder, "--prompt", prompt, *options).stdout == report["text"] + "\n"


@pytest.mark.parametrize("has_text", [False, True])
def test_a_stream_prints_what_is_printed_otherwise(generate, folder, bare_folder, has_text):
    place = folder if has_text else bare_folder
    streamed = generate("--stream", place=place)
    assert streamed.exit_code == 0, streamed.output
    assert streamed.stdout == generate(place=place).stdout
    assert f"{COUNT} tokens in" in streamed.stderr


def test_sampling_is_the_librarys(generate, expected):
    options = ["--temperature", "1.5", "--top-k", "60", "--top-p", "0.97", "--min-p", "0.001", "--seed", "7", "--json"]
    sampling = Sampling(temperature=1.5, top_k=60, top_p=0.97, min_p=0.001)
    assert json.loads(generate(*options).stdout)["tokens"] == expected(sampling=sampling, seed=7).tokens


def test_a_generation_config_that_samples_changes_nothing(generate, expected, bare_folder, tmp_path):
    place = tmp_path / "sampling"
    shutil.copytree(bare_folder, place)
    wanted = {"do_sample": True, "temperature": 3.0, "eos_token_id": expected().tokens[2]}
    (place / "generation_config.json").write_text(json.dumps(wanted))
    stopped = json.loads(generate("--json", place=place).stdout)
    assert stopped["tokens"] == expected().tokens[:3]
    assert stopped["finish_reason"] == "stop"
    assert json.loads(generate("--json", "--ignore-eos", place=place).stdout)["tokens"] == expected().tokens


def test_logprobs_are_reported_in_json_and_as_a_table(generate, expected):
    completion = expected(top_logprobs=2)
    report = json.loads(generate("--top-logprobs", "2", "--json").stdout)
    np.testing.assert_allclose(report["logprobs"], completion.logprobs, atol=1e-5)
    assert [[entry["token"] for entry in top] for top in report["top_logprobs"]] == [
        list(top) for top in completion.top_logprobs
    ]
    lines = generate("--top-logprobs", "2").stdout.splitlines()[1:]
    assert [int(line.split()[0]) for line in lines[::3]] == completion.tokens
    assert [int(line.split()[0]) for line in lines[1::3]] == [next(iter(top)) for top in completion.top_logprobs]


@pytest.mark.numbers
@pytest.mark.parametrize("scan", [["--scan-layers"], ["--no-scan-layers"], []])
def test_scanned_layers_and_fixed_lengths_generate_the_same(generate, expected, scan):
    options = [*scan, "--prefill-length", "4", "--max-length", "20", "--json"]
    assert json.loads(generate(*options).stdout)["tokens"] == expected().tokens


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stream", "--json"], "--stream prints the text as it comes"),
        (["--stream", "--logprobs"], "--stream prints the text as it comes"),
        (["--top-k", "3"], "Without --temperature"),
        (["--max-length", "8"], "a prompt of 3 tokens and 6 new ones make 9, more than max_length 8"),
        (["--top-logprobs", "9999999"], "top_logprobs is at least 0 and at most"),
        (["--mesh", "tensr=2"], "no mesh axis is called 'tensr'"),
        (["--prompt", "a"], "either --prompt or --tokens"),
    ],
)
def test_impossible_wishes_are_usage_errors(generate, arguments, words):
    result = generate(*arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--moe", "megablox"], "the MoE strategy 'megablox' cannot run here"),
        (["--mesh", "tensor=64"], "64 devices"),
    ],
)
def test_what_this_machine_lacks_is_missing(generate, arguments, words):
    result = generate(*arguments)
    assert result.exit_code == 5, result.output
    assert words in result.stderr


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("1,x", "'x' is not a token id"),
        ("9" * 5000, "is not a token id"),
        ("1,99999", "token id 99999 at place 1 is not in the vocabulary"),
        ("", "not a token id"),
    ],
)
def test_wrong_ids_are_a_usage_error(run, bare_folder, tokens, words):
    result = run("generate", bare_folder, "--tokens", tokens)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr) < 400


def test_missing_checkpoint_is_bad_input(run, tmp_path):
    result = run("generate", tmp_path / "nothing", "--tokens", "1")
    assert result.exit_code == 3
    assert "nothing" in result.stderr


def test_text_without_tokenizer_is_bad_input(run, bare_folder):
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    result = run("generate", bare_folder, "--prompt", "hello")
    assert result.exit_code == 3
    assert "tokenizer.json" in result.stderr


def test_help_shows_examples(run):
    result = run("generate", "--help")
    assert result.exit_code == 0
    assert "\n    gptoss-model generate gpt-oss-20b --prompt" in result.stdout


def test_help_does_not_wait_for_jax():
    script = "import sys; from gptoss_model.cli.generate import generate_command; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
