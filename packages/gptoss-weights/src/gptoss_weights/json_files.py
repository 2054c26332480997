"""JSON files read strictly: UTF-8, one object, no key twice, no NaN."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.impostors import LOOKED_AT_BYTES, refuse_impostors

__all__ = ["load_json_object", "parse_json_object"]

MAX_NESTING = 100  # configs nest three deep; far beyond it copying them would exhaust the stack


def load_json_object(path: Path, *, what: str = "the file", fix: str | None = None) -> dict[str, Any]:
    """Reads a JSON object from a file; `what` names it in errors, `fix` is said if it is not there.

    Raises:
        CheckpointError: the file is missing, or not such JSON, which then says what it is instead.
    """
    if not path.is_file():
        raise CheckpointError(f"{what} is not there", where=path, fix=fix)
    raw = path.read_bytes()
    refuse_impostors(path, raw[:LOOKED_AT_BYTES], what=what, wanted="a JSON file")
    return parse_json_object(raw, what=what, where=path)


def parse_json_object(raw: bytes, *, what: str, where: object) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        CheckpointError: it is not UTF-8, not JSON, not an object, has a key twice, or nests too deeply.
    """
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{what} is not UTF-8", where=where, found=error.reason) from None
    except RecursionError:
        raise _nested_too_deeply(what, where) from None
    except ValueError as error:
        raise CheckpointError(f"{what} is not valid JSON ({error})", where=where) from None
    if _is_too_deep(document):
        raise _nested_too_deeply(what, where)
    if not isinstance(document, dict):
        raise CheckpointError(f"{what} is not a JSON object", where=where, found=type(document).__name__)
    return document


def _nested_too_deeply(what: str, where: object) -> CheckpointError:
    return CheckpointError(f"{what} is nested too deeply", where=where, expected=f"at most {MAX_NESTING} levels")


def _is_too_deep(document: object) -> bool:
    level = [document]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(node: object) -> Iterable[object]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"the key {twice!r} stands there twice")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
