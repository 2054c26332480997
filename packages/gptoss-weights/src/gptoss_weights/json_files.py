"""JSON files read strictly: UTF-8, one object, no key twice, no NaN.

A file may be made to exhaust memory or time: its size, the number of its values and their depth are
bounded before anything is built from it.
"""

import collections
import itertools
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.impostors import LOOKED_AT_BYTES, refuse_impostors
from gptoss_weights.wording import shown

__all__ = ["load_json_object", "parse_json_object"]

MAX_BYTES = 100_000_000  # as the header of a safetensors file may have
MAX_VALUES = 1_000_000  # a header of the most layers that a config may have holds 620 000
MAX_NESTING = 100  # configs nest three deep; far beyond it copying them would exhaust the stack

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def load_json_object(path: Path, *, what: str = "the file", fix: str | None = None) -> dict[str, Any]:
    """Reads a JSON object from a file; `what` names it in errors, `fix` is said if it is not there.

    Raises:
        CheckpointError: the file is missing, or not such JSON, which then says what it is instead.
    """
    if not path.is_file():
        raise CheckpointError(f"{what} is not there", where=path, fix=fix)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    refuse_impostors(path, raw[:LOOKED_AT_BYTES], what=what, wanted="a JSON file")
    return parse_json_object(raw, what=what, where=path)


def parse_json_object(raw: bytes, *, what: str, where: object) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        CheckpointError: it is not UTF-8, not JSON, not an object, has a key twice, nests too deeply, or is
            larger than any file of a checkpoint.
    """
    if len(raw) > MAX_BYTES:
        raise CheckpointError(f"{what} is too large", where=where, expected=f"at most {MAX_BYTES} bytes")
    # Commas and brackets in strings count as well, which does no harm so far above what is needed.
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if values > MAX_VALUES:
        raise CheckpointError(
            f"{what} has too many values", where=where, expected=f"at most {MAX_VALUES}", found=f"about {values}"
        )
    if _depth(raw) > MAX_NESTING:
        raise CheckpointError(f"{what} is nested too deeply", where=where, expected=f"at most {MAX_NESTING} levels")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{what} is not UTF-8", where=where, found=error.reason) from None
    except ValueError as error:
        raise CheckpointError(f"{what} is not valid JSON ({error})", where=where) from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{what} is not a JSON object", where=where, found=type(document).__name__)
    return document


def _depth(raw: bytes) -> int:
    """How many brackets are open at once at the most, be it JSON or not; those in strings do not count."""
    brackets = _STRING.sub(b"", raw).translate(None, delete=_NO_BRACKETS)
    return max(itertools.accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        raise ValueError(f"the key {shown(counts.most_common(1)[0][0])} stands there twice")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
