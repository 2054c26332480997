"""The chat command, with answers written by the tests in place of the random model's."""

import json

import pytest
from gptoss_onnx import NewToken
from gptoss_weights.text.harmony import HarmonyEncoding, load_harmony_encoding

pytest.importorskip("tokenizers", reason="the extra `text` is not installed")

ANSWER = "<|channel|>analysis<|message|>Simple.<|end|><|start|>assistant<|channel|>final<|message|>Four 🙂<|return|>"


@pytest.fixture(scope="module")
def encoding(folder) -> HarmonyEncoding:
    return load_harmony_encoding(folder)


@pytest.fixture
def answers(monkeypatch, encoding):
    """Has the model say what is appended here, turn by turn; gives what it was asked, as text."""
    coming, asked = [], []

    def stream(model, prompts, *, max_new_tokens, eos_token_ids, **options):
        asked.append(encoding.decode(prompts[0]))
        ids = encoding.tokenizer.encode(coming.pop(0))[:max_new_tokens]
        for place, token in enumerate(ids):
            stops = token in eos_token_ids
            is_last = place + 1 == max_new_tokens
            yield NewToken(sequence=0, token=token, finish_reason="stop" if stops else "length" if is_last else None)
            if stops:
                return

    monkeypatch.setattr("gptoss_onnx.generation.stream", stream)
    return coming, asked


def test_the_answer_is_printed_and_the_reasoning_is_not(run, folder, answers):
    coming, asked = answers
    coming.append(ANSWER)
    result = run("chat", folder, "--message", "What is 2 + 2?", "--reasoning", "low", "--date", "2025-08-05")
    assert result.exit_code == 0, result.output
    assert result.stdout == "Four 🙂\n"
    assert result.stderr == ""
    assert "Reasoning: low" in asked[0]
    assert "Current date: 2025-08-05" in asked[0]
    assert asked[0].endswith("<|start|>user<|message|>What is 2 + 2?<|end|><|start|>assistant")


def test_the_random_model_itself_says_something(run, folder):
    """No answer is written here: prompt, cache and reading back, all the way."""
    result = run("chat", folder, "--message", "Hi", "--max-new-tokens", "4", "--max-length", "512", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["tokens"]) == 4


def test_a_checkpoint_without_tokenizer_cannot_chat(run, bare_folder):
    result = run("chat", bare_folder, "--message", "Hi")
    assert result.exit_code == 3
    assert "tokenizer.json" in result.stderr
