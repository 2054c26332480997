"""The goldens of gptoss-weights' own tests are what the official code says today.

Where they differ, or a case is new, the fresh files are written to the folder that the failure names; copied
over the committed ones they are the goldens.
"""

import importlib.metadata
import itertools
import json
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.oracle

GOLDENS = Path(__file__).parents[3] / "packages" / "gptoss-weights" / "tests" / "text" / "harmony"
CASES = runpy.run_path(str(GOLDENS / "cases.py"))


@pytest.fixture(scope="module")
def recorded(official, to_official, published_template, encoding) -> dict:
    return {
        "provenance": {
            "openai-harmony": importlib.metadata.version("openai-harmony"),
            "chat template": "openai/gpt-oss-20b chat_template.jinja",
            "vocabulary": "o200k_base.tiktoken, and o200k_harmony's special tokens",
        },
        "conversations": {
            name: conversation(official, to_official(messages)) for name, messages in CASES["CONVERSATIONS"].items()
        },
        "completions": {name: completion(official, text) for name, text in CASES["COMPLETIONS"].items()},
        "templates": {
            name: {
                kind: encoding.tokenizer.encode(
                    published_template(
                        messages, date=CASES["TEMPLATE_DATE"], add_generation_prompt=kind == "prompt", **options
                    )
                )
                for kind in ("prompt", "example")
            }
            for name, (messages, options) in CASES["TEMPLATES"].items()
        },
    }


def conversation(official, messages) -> dict:
    import openai_harmony

    keep = openai_harmony.RenderConversationConfig(auto_drop_analysis=False)
    return {
        "conversation": official.render_conversation(messages),
        "kept": official.render_conversation(messages, keep),
        "prompt": official.render_conversation_for_completion(messages, openai_harmony.Role.ASSISTANT),
        "example": official.render_conversation_for_training(messages),
    }


def completion(official, text: str) -> dict:
    import openai_harmony

    tokens = official.encode(text, allowed_special="all")
    read = {}
    for name, strict in (("strict", True), ("lenient", False)):
        try:
            messages = official.parse_messages_from_completion_tokens(
                tokens, openai_harmony.Role.ASSISTANT, strict=strict
            )
        except openai_harmony.HarmonyError:
            read[name] = None
        else:
            read[name] = [json.loads(message.to_json()) for message in messages]
    return {"tokens": tokens, **read}


def tokens_in(document) -> set[int]:
    if isinstance(document, dict):
        return set().union(*map(tokens_in, document.values()))
    if isinstance(document, list):
        return {item for item in document if isinstance(item, int)}.union(*map(tokens_in, document))
    return set()


def small_tokenizer(published: Path, recorded: dict) -> dict:
    """The published tokenizer, cut down to what the goldens need; every id and every merge is as published.

    A text is cut into the same tokens by all merges and by those that were applied to it alone, for what is
    picked among all stays the first among few. So the texts of the goldens need the tokens in them, and
    those that their merges pass through.
    """
    import tokenizers

    document = json.loads(published.read_text())
    backend = tokenizers.Tokenizer.from_file(str(published))
    model, added = document["model"], {token["content"]: token["id"] for token in document["added_tokens"]}
    ranks = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
    names = {token: name for name, token in model["vocab"].items()}
    needed = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    needed |= {names[token] for token in tokens_in(recorded) if token in names}
    special = set(added.values())
    runs = [run for tokens in token_lists(recorded) for run in between(tokens, special)]
    for text in map(backend.decode, runs):
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(text):
            needed |= passed_through(word, ranks) if word not in model["vocab"] else set()
    model["vocab"] = {name: token for name, token in model["vocab"].items() if name in needed} | added
    model["merges"] = [pair for pair in model["merges"] if {*pair, "".join(pair)} <= needed]
    return document


def token_lists(document) -> list[list[int]]:
    if isinstance(document, dict):
        return [tokens for value in document.values() for tokens in token_lists(value)]
    return [document] if isinstance(document, list) and all(isinstance(item, int) for item in document) else []


def between(tokens: list[int], borders: set[int]) -> list[list[int]]:
    """The stretches of a list without its borders."""
    return [list(run) for is_border, run in itertools.groupby(tokens, borders.__contains__) if not is_border]


def passed_through(word: str, ranks: dict[tuple[str, str], int]) -> set[str]:
    """Every token that byte-pair encoding makes of a word on its way."""
    parts, seen = list(word), set()
    while True:
        pairs = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not pairs:
            return seen
        _, place = min(pairs)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
        seen.add(parts[place])


def test_goldens_are_what_the_official_code_says(recorded, published_tokenizer, tmp_path):
    fresh = {"goldens.json": recorded, "goldens.tokenizer.json": small_tokenizer(published_tokenizer, recorded)}
    for name, document in fresh.items():
        # ensure_ascii and the escaped slash keep the files free of what looks like a machine's path.
        text = json.dumps(document, separators=(",", ":")).replace("/", "\\/")
        (tmp_path / name).write_text(text.replace('},"', '},\n"') + "\n")
    for name in fresh:
        assert (GOLDENS / name).read_bytes() == (tmp_path / name).read_bytes(), f"the fresh file is {tmp_path / name}"
