"""Prompts of a command: a text, token ids, or a file of many, some of them conversations.

A file holds one prompt a line. A line that begins with `{` is JSON: `{"tokens": [1, 2]}`,
`{"prompt": "text"}` or `{"messages": [{"role": "user", "content": "…"}]}`, which is rendered in Harmony
format up to where the assistant answers. Any other line is a text as it stands.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gptoss_weights import Checkpoint, CheckpointError, ConversationError
from gptoss_weights.token_ids import require_known_tokens

__all__ = ["Prompt", "given_prompts"]

_KINDS = ("tokens", "prompt", "messages")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Token ids, and the text that they come from if they come from one."""

    tokens: list[int]
    text: str | None = None


def given_prompts(
    checkpoint: Checkpoint,
    *,
    text: str | None = None,
    tokens: Sequence[int] | None = None,
    path: Path | None = None,
    max_tokens: int | None = None,
) -> list[Prompt]:
    """The prompts of a command line; exactly one of `text`, `tokens` and `path` is given.

    Args:
        checkpoint: Whose tokenizer and vocabulary serve.
        text: A text.
        tokens: Token ids.
        path: A file of prompts.
        max_tokens: Cuts each prompt behind so many tokens.

    Raises:
        click.BadParameter: an id of `tokens` is outside the vocabulary.
        CheckpointError: the file, a line of it or the tokenizer is not what it should be.
        ConversationError: messages are none.
        MissingDependencyError: text was given, and the extra `text` is not installed.
    """
    if tokens is not None:
        require_known_tokens(tokens, checkpoint.config.vocab_size)
        prompts = [Prompt(list(tokens))]
    elif text is not None:
        prompts = [_from_text(checkpoint, text, where="--prompt")]
    elif path is not None:
        prompts = list(_from_file(checkpoint, path))
    else:
        raise AssertionError("no prompt is given")
    return [dataclasses.replace(prompt, tokens=prompt.tokens[:max_tokens]) for prompt in prompts]


def _from_file(checkpoint: Checkpoint, path: Path) -> Iterator[Prompt]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the file of prompts is not UTF-8 ({error.reason})", where=path) from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise CheckpointError("the file holds no prompt", where=path, expected="one a line, as text or JSON")
    for number, line in numbered:
        where = f"{path}:{number}"
        yield (
            _from_json(checkpoint, line, where)
            if line.lstrip().startswith("{")
            else _from_text(checkpoint, line, where)
        )


def _from_json(checkpoint: Checkpoint, line: str, where: str) -> Prompt:
    try:
        document: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"the line begins like JSON and is none ({error})", where=where) from None
    kinds = [kind for kind in _KINDS if kind in document]
    # A golden of MaxText's has its prompt and its tokens; the ids say exactly what is meant.
    if not kinds:
        raise CheckpointError(
            "the line names no prompt", where=where, expected=" or ".join(_KINDS), found=", ".join(document)
        )
    value = document[kinds[0]]
    if kinds[0] == "tokens":
        return Prompt(_ids(checkpoint, value, where))
    if kinds[0] == "prompt" and isinstance(value, str):
        return _from_text(checkpoint, value, where)
    if kinds[0] == "messages" and isinstance(value, list):
        return _from_messages(checkpoint, value, where)
    raise CheckpointError(f"{kinds[0]} is of another kind", where=where, found=type(value).__name__)


def _ids(checkpoint: Checkpoint, value: object, where: str) -> list[int]:
    vocabulary = checkpoint.config.vocab_size
    if not isinstance(value, list) or not value:
        raise CheckpointError("tokens are not a list of ids", where=where)
    for place, token in enumerate(value):
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocabulary:
            raise CheckpointError(
                "a token is outside the vocabulary",
                where=f"{where}: tokens[{place}]",
                expected=f"0 … {vocabulary - 1}",
                found=token,
            )
    return list(value)


def _from_text(checkpoint: Checkpoint, text: str, where: str) -> Prompt:
    from gptoss_weights.text import load_tokenizer

    return Prompt(_in_vocabulary(checkpoint, load_tokenizer(checkpoint).encode(text), where), text)


def _from_messages(checkpoint: Checkpoint, messages: list[Any], where: str) -> Prompt:
    from gptoss_weights.text.harmony import conversation_from_json, load_harmony_encoding

    encoding = load_harmony_encoding(checkpoint)
    try:
        conversation = conversation_from_json(messages)
    except ConversationError as error:
        raise ConversationError(str(error), where=where) from None
    tokens = encoding.render_conversation_for_completion(conversation)
    return Prompt(_in_vocabulary(checkpoint, tokens, where), encoding.decode(tokens))


def _in_vocabulary(checkpoint: Checkpoint, tokens: Sequence[int], where: str) -> list[int]:
    if not tokens:
        raise CheckpointError("the prompt has no tokens", where=where)
    if max(tokens) >= checkpoint.config.vocab_size:
        raise CheckpointError(
            "the tokenizer does not belong to these weights",
            where=where,
            expected=f"ids below the vocabulary size {checkpoint.config.vocab_size}",
            found=max(tokens),
            fix="Give token ids instead of text.",
        )
    return list(tokens)
