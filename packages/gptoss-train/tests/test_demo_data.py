"""What the demo's recipes learn from, and a few steps of both recipes on excerpts."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from gptoss_train.cli import main
from gptoss_train.demo_data import LONGEST_TURN, chapters, conversations, rehearsal, rendered
from gptoss_train.demo_data import main as make_data
from gptoss_weights import open_checkpoint
from gptoss_weights.text import load_tokenizer

# King James Version, 1611, public domain.
VERSES = """\
Ge1:1 In the beginning God created the heaven and the earth.
Ge1:2 And the earth was without form, and void; and darkness was upon the face of the deep.
Ge2:1 Thus the heavens and the earth were finished, and all the host of them.
1Sam3:9 Therefore Eli said unto Samuel, Go, lie down.
"""


def test_verses_of_a_chapter_are_one_paragraph_without_their_numbers():
    found = list(chapters(VERSES.splitlines(keepends=True)))
    assert [text[:10] for text in found] == ["In the beg", "Thus the h", "Therefore "]
    assert "the earth. And the earth" in found[0]
    assert not any(character.isdigit() for text in found for character in text)


def test_line_that_is_no_verse_is_named():
    with pytest.raises(ValueError, match=r"line 2 is no verse.*Genesis, chapter 1"):
        list(chapters(["Ge1:1 In the beginning", "Genesis, chapter 1"]))


def test_conversations_begin_with_a_user_end_with_an_answer_and_come_once():
    said = [["Hello", "Hi", "How are you?"], ["Hello", "Hi"], ["Bye", "Good bye"], ["What is Pi?", 3.14], ["alone"]]
    records = list(conversations(said))
    assert [[turn["content"] for turn in record["messages"]] for record in records] == [
        ["Hello", "Hi"],
        ["Bye", "Good bye"],
        ["What is Pi?", "3.14"],
    ]
    assert all([turn["role"] for turn in record["messages"]] == ["user", "assistant"] for record in records)
    assert [record["reasoning_effort"] for record in records] == ["low", "medium", "high"]


def test_conversation_ends_before_a_turn_that_is_too_long():
    (record,) = conversations([["one", "two", "three", "x" * (LONGEST_TURN + 1)]])
    assert [turn["content"] for turn in record["messages"]] == ["one", "two"]


def test_what_a_model_reads_has_no_special_tokens():
    (record,) = conversations([["Hello", "Hi"]])
    text = rendered(record)
    assert "You are ChatGPT" in text
    assert "Reasoning: low" in text
    assert text.endswith("assistant\nfinal\nHi\n")
    assert "<|" not in text


def test_rehearsal_takes_the_first_paragraph_and_few_more():
    records = list(rehearsal("\n\n".join(f"paragraph {number}" for number in range(40)) + "\n"))
    assert records == [{"text": "paragraph 0"}, {"text": "paragraph 32"}]


@pytest.mark.slow
def test_both_recipes_train_and_end_in_a_checkpoint_with_the_tokenizer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(make_data, ["text", "kjv.txt"], input=VERSES).exit_code == 0
    records = conversations([["Hello", "Hi"], ["Who are you?", "A model."]])
    Path("chats.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert run(make_data, ["rendered", "chats.jsonl", "chats.txt"]).exit_code == 0
    assert run(make_data, ["rehearsal", "kjv.txt", "rehearsal.jsonl"]).exit_code == 0
    # The excerpts are too short for a vocabulary of that size; a license is not.
    shutil.copy(Path(__file__).parents[1] / "LICENSE", "license.txt")
    from gptoss_weights.demo.start import build_start

    build_start(Path("demo-start"), [Path("license.txt"), Path("kjv.txt"), Path("chats.txt")])
    few = [
        "steps=2",
        "batch_size=2",
        "sequence_length=64",
        "optimizer.warmup_steps=1",
        "data.take=null",
        "evaluation.data=null",
        "log.report=false",
    ]
    for arguments in (
        ["pretrain", "demo", *few],
        ["export", "runs/demo", "demo-base", "--format", "openai"],
        ["finetune", "demo-sft", *few],
        ["export", "runs/demo-sft", "demo-checkpoint", "--format", "openai"],
    ):
        result = run(main, arguments)
        assert result.exit_code == 0, result.output
    losses = [json.loads(line)["loss"] for line in Path("runs/demo/metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    made = open_checkpoint(Path("demo-checkpoint"))
    assert made.config == open_checkpoint(Path("demo-start")).config
    assert load_tokenizer(made).encode("<|return|>") == load_tokenizer(Path("demo-start")).encode("<|return|>")
    assert (Path("demo-checkpoint") / "generation_config.json").exists()
