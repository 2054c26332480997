"""Golden logits as MaxText keeps them: JSON lines `{"prompt", "tokens", "logits"}`, read and written.

A line is one prompt: its text, its T token ids, and T lists of V logits, those of each token's successor. There
is nothing else in it: no dtype, no provenance, no hidden state. What is read is therefore a trace
that knows its logits only. Each number is written with as many digits as float32 needs.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gptoss_weights import CheckpointError
from gptoss_weights.durable_files import replaced_file

from gptoss_parity.trace import Trace, TraceMetadata

__all__ = ["read_golden_jsonl", "write_golden_jsonl"]

SOURCE = "golden-jsonl"
_KEYS = ("tokens", "logits")


def read_golden_jsonl(path: Path) -> list[Trace]:
    """Every line as a trace; keys beyond those three are not read, and `prompt` may be missing.

    Raises:
        CheckpointError: there is no such file, it has no line, or a line is not what it should be.
    """
    if not path.is_file():
        raise CheckpointError("there is no such golden file", where=path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the golden file is not UTF-8 ({error.reason})", where=path) from None
    if not lines:
        raise CheckpointError("the golden file has no line", where=path, expected="one JSON object a prompt")
    return [_read_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def write_golden_jsonl(traces: Iterable[tuple[str, Trace]], path: Path) -> None:
    """Writes prompts and the logits of their traces; `path` appears whole or not at all.

    Raises:
        CheckpointError: a trace has no logits, or one is not finite, which JSON cannot say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as stream:
        for prompt, trace in traces:
            for piece in _line(prompt, trace):
                stream.write(piece.encode())


def _line(prompt: str, trace: Trace) -> Iterator[str]:
    """A line in pieces, one a token, for a prompt of logits at full vocabulary is megabytes of text."""
    if "logits" not in trace:
        raise CheckpointError("the trace has no logits", where=trace.where)
    head = json.dumps({"prompt": prompt, "tokens": trace.tokens.tolist()})[:-1]
    yield f'{head}, "logits": ['
    for place, row in enumerate(trace["logits"]):
        if not np.isfinite(row).all():
            raise CheckpointError("a logit is not finite", where=f"{trace.where}: logits[{place}]")
        # repr of a float32 is the shortest text that reads back as the same float32.
        yield f"{', ' if place else ''}[{', '.join(_shortest(value) for value in row)}]"
    yield "]}\n"


def _shortest(value: np.float32) -> str:
    text = np.format_float_positional(value, unique=True, trim="0")
    return text if len(text) <= _LONGEST else repr(float(value))


_LONGEST = 24  # beyond it the exponent of `repr` is shorter


def _read_line(line: str, where: str) -> Trace:
    try:
        document: Any = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"the line is not valid JSON ({error})", where=where) from None
    if not isinstance(document, dict) or any(key not in document for key in _KEYS):
        found = ", ".join(document) if isinstance(document, dict) else type(document).__name__
        raise CheckpointError("the line is no golden", where=where, expected="keys prompt, tokens, logits", found=found)
    tokens, logits = document["tokens"], document["logits"]
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, int) and t >= 0 for t in tokens):
        raise CheckpointError("tokens are not a list of token ids", where=where)
    try:
        array = np.array(logits, dtype=np.float32)
    except (TypeError, ValueError):  # lists of several lengths, or not of numbers
        expected = f"{len(tokens)} lists of numbers, all of one length"
        raise CheckpointError("logits are not [T, V]", where=where, expected=expected) from None
    if array.ndim != len("TV") or len(array) != len(tokens) or not array.size:
        expected = f"{len(tokens)} lists of one length, one a token"
        raise CheckpointError("logits are not [T, V]", where=where, expected=expected, found=f"shape {array.shape}")
    if not math.isfinite(float(np.abs(array).max())):
        raise CheckpointError("a logit is not finite", where=where)
    options = {"prompt": document["prompt"]} if isinstance(document.get("prompt"), str) else {}
    metadata = TraceMetadata(source=SOURCE, dtype="float32", options=options, is_partial=True)
    return Trace(np.array(tokens, np.int64), {"logits": array}, metadata, where=where)
