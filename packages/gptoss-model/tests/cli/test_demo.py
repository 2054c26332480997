"""What the embedded demo has learnt: to go on with a text in words, and to answer in Harmony and stop."""

import json

import pytest
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, DEMO_PROMPT

pytest.importorskip("tokenizers", reason="the extra `text` is not installed")


@pytest.mark.numbers
def test_demo_goes_on_in_words(run):
    arguments = ("--prompt", DEMO_PROMPT, "--max-new-tokens", 40, "--dtype", "float32", "--json")
    result = run("generate", DEMO_CHECKPOINT_PATH, *arguments)
    assert result.exit_code == 0, result.output
    words = json.loads(result.stdout)["text"].split()
    known = {"the", "and", "of", "to", "in", "unto", "that", "he", "shall", "LORD", "God", "be", "it", "they", "I"}
    assert len(words) > 15
    assert sum(word.strip(".,;:?!") in known for word in words) > len(words) / 4


@pytest.mark.numbers
@pytest.mark.parametrize("message", ["Hello", "What is AI?", "Tell me a joke"])
def test_demo_answers_in_harmony_and_stops_by_itself(run, message):
    result = run("chat", DEMO_CHECKPOINT_PATH, "--message", message, "--dtype", "float32", "--json")
    assert result.exit_code == 0, result.output
    assert "no Harmony" not in result.stderr
    answer = json.loads(result.stdout)
    assert answer["finish_reason"] == "stop"
    (said,) = answer["messages"]
    assert said["channel"] == "final"
    assert len(said["content"].split()) < 60
