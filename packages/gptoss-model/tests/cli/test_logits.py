import json

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import load_model
from gptoss_weights import open_checkpoint
from gptoss_weights.text import load_tokenizer
from safetensors.numpy import load_file

TOKENS = [5, 6, 7]


@pytest.fixture(scope="module")
def logits(run_module, bare_folder):
    """Runs the command on the prompt 5, 6, 7, in float32."""

    def invoke(*arguments, place=bare_folder):
        return run_module("logits", place, "--tokens", "5,6,7", "--dtype", "float32", *arguments)

    return invoke


@pytest.fixture(scope="module")
def expected(bare_folder):
    return np.asarray(load_model(open_checkpoint(bare_folder), dtype=jnp.float32)(np.array([TOKENS])).logits[0])


def test_the_likeliest_tokens_after_the_prompt_are_shown(logits, expected):
    result = logits("--top", "4")
    assert result.exit_code == 0, result.output
    head, *lines = result.stdout.splitlines()
    assert head == "after token 2, 7"
    assert [int(line.split()[1]) for line in lines] == np.argsort(-expected[-1])[:4].tolist()


def test_text_is_shown_where_there_is_a_tokenizer(logits, folder):
    lines = logits("--top", "1", place=folder).stdout.splitlines()
    assert lines[0].endswith(repr(load_tokenizer(folder).decode([7])))
    assert lines[1].rstrip().endswith("'")


def test_json_has_logits_and_logprobs_of_every_position(logits, expected):
    report = json.loads(logits("--positions", "all", "--top", "3", "--json").stdout)
    assert report["prompt_tokens"] == TOKENS
    assert [entry["position"] for entry in report["positions"]] == [0, 1, 2]
    logprobs = expected - np.log(np.exp(expected).sum(axis=-1, keepdims=True))
    for entry, row, logprob in zip(report["positions"], expected, logprobs, strict=True):
        best = [top["token"] for top in entry["top"]]
        assert best == np.argsort(-row)[:3].tolist()
        np.testing.assert_allclose([top["logit"] for top in entry["top"]], row[best], rtol=1e-4)
        np.testing.assert_allclose([top["logprob"] for top in entry["top"]], logprob[best], rtol=1e-4)


@pytest.mark.parametrize(("positions", "count"), [("all", 3), ("last", 1)])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_files_hold_the_logits(logits, expected, tmp_path, suffix, positions, count):
    path = tmp_path / f"logits{suffix}"
    result = logits("--positions", positions, "--output", path)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stdout
    found = np.load(path) if suffix == ".npy" else load_file(path)["logits"]
    np.testing.assert_allclose(found, expected[-count:], rtol=1e-4, atol=1e-4)
    if suffix == ".safetensors":
        assert load_file(path)["tokens"].tolist() == TOKENS


def test_json_says_what_was_written(logits, expected, tmp_path):
    report = json.loads(logits("--output", tmp_path / "logits.npy", "--json").stdout)
    assert report == {
        "output": str(tmp_path / "logits.npy"),
        "shape": [1, expected.shape[1]],
        "prompt_tokens": TOKENS,
    }


def test_other_kinds_of_files_are_refused(logits, tmp_path):
    result = logits("--output", tmp_path / "logits.csv")
    assert result.exit_code == 2
    assert "neither a .npy nor a .safetensors file" in result.stderr


def test_a_folder_that_is_not_there_is_bad_input(logits, tmp_path):
    result = logits("--output", tmp_path / "nowhere" / "logits.npy")
    assert result.exit_code == 3
    assert "nowhere" in result.stderr
