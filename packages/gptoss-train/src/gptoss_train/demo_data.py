"""The data of the recipes `demo` and `demo-sft`, made of what a Debian and a PyPI package ship.

    bible -f gen1:1-rev22:21 | python -m gptoss_train.demo_data text kjv.txt   # paragraphs, one a chapter
    python -m gptoss_train.demo_data chats chats.jsonl            # of the English part of chatterbot-corpus
    python -m gptoss_train.demo_data rendered chats.jsonl chats.txt   # what a model reads of them
    python -m gptoss_train.demo_data rehearsal kjv.txt rehearsal.jsonl  # some paragraphs, not to be forgotten

None of these texts is in this repository.
"""

import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["chapters", "conversations", "rehearsal", "rendered"]

VERSE = re.compile(r"(?P<chapter>[1-3]?[A-Za-z]+\d+):\d+ (?P<text>.*)")
LONGEST_TURN = 240  # characters; a longer one would not fit into a row with its question
LEFT_OUT = ("coding", "tech_support")  # programs, and ten answers a hundred times
REHEARSED = 32  # one paragraph in so many
EFFORTS = ("low", "medium", "high")
SPECIAL_TOKEN = re.compile(r"<\|\w+\|>")


def chapters(lines: Iterable[str]) -> Iterator[str]:
    """One paragraph a chapter, without the numbers.

    Args:
        lines: Verses, such as `Ge1:1 In the beginning …`.

    Raises:
        ValueError: a line is no verse.
    """
    verses = []
    for number, line in enumerate(lines, 1):
        verse = VERSE.fullmatch(line.rstrip())
        if verse is None:
            raise ValueError(f"line {number} is no verse such as 'Ge1:1 In the beginning', but {line.rstrip()[:60]!r}")
        verses.append((verse["chapter"], verse["text"].strip()))
    for _, chapter in itertools.groupby(verses, key=lambda verse: verse[0]):
        yield " ".join(text for _, text in chapter)


def conversations(statements: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Records with `messages` and `reasoning_effort`, each conversation once; a user begins, the assistant ends.

    Args:
        statements: What is said in turn, for each conversation; it ends before the first turn that is too long.
    """
    seen = set()
    efforts = itertools.cycle(EFFORTS)
    for conversation in statements:
        turns = itertools.takewhile(
            lambda turn: 0 < len(turn) <= LONGEST_TURN, (str(turn).strip() for turn in conversation)
        )
        said = tuple(turns)
        said = said[: len(said) // 2 * 2]
        if not said or said in seen:
            continue
        seen.add(said)
        roles = itertools.cycle(("user", "assistant"))
        yield {
            "messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)],
            "reasoning_effort": next(efforts),
        }


def rendered(record: Mapping[str, Any]) -> str:
    """The words of a conversation in the Harmony format, with a line's end for each special token."""
    from gptoss_weights.text.harmony import (
        ReasoningEffort,
        SystemContent,
        conversation_from_json,
        render_conversation,
        rendered_text,
    )

    system = SystemContent(reasoning_effort=ReasoningEffort(record["reasoning_effort"]))
    conversation = conversation_from_json(record["messages"], system=system)
    return SPECIAL_TOKEN.sub("\n", rendered_text(render_conversation(conversation)))


def rehearsal(text: str) -> Iterator[dict[str, str]]:
    """Records with one in `REHEARSED` of a text's paragraphs, from the first on."""
    for paragraph in text.strip().split("\n\n")[::REHEARSED]:
        yield {"text": paragraph}


@click.group()
def main() -> None:
    """Make the data of the demo's recipes."""


@main.command("text")
@click.argument("output", type=click.Path(path_type=Path))
def _text(output: Path) -> None:
    """Make paragraphs of the verses on standard input."""
    output.write_text("\n\n".join(chapters(sys.stdin)) + "\n", encoding="utf-8")


@main.command("chats")
@click.argument("output", type=click.Path(path_type=Path))
def _chats(output: Path) -> None:
    """Make conversations of the package chatterbot-corpus."""
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException("the package chatterbot-corpus is not here; install it with pip")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "english"
    records = conversations(_statements(folder))
    output.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@main.command("rendered")
@click.argument("chats", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def _rendered(chats: Path, output: Path) -> None:
    """Write the words that a model reads of conversations."""
    lines = chats.read_text(encoding="utf-8").splitlines()
    output.write_text("".join(rendered(json.loads(line)) for line in lines), encoding="utf-8")


@main.command("rehearsal")
@click.argument("text", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def _rehearsal(text: Path, output: Path) -> None:
    """Write some paragraphs of a text as records."""
    records = rehearsal(text.read_text(encoding="utf-8"))
    output.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _statements(folder: Path) -> Iterator[Sequence[Any]]:
    import yaml

    for file in sorted(folder.glob("*.yml")):
        if file.stem not in LEFT_OUT:
            yield from yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]


if __name__ == "__main__":
    main()
