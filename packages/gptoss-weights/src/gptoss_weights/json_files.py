"""JSON files read strictly: UTF-8, one object, no key twice, no NaN."""

import json
from pathlib import Path
from typing import Any, NoReturn

from gptoss_weights.errors import CheckpointError

__all__ = ["load_json_object", "parse_json_object"]


def load_json_object(path: Path, *, what: str = "the file", fix: str | None = None) -> dict[str, Any]:
    """Reads a JSON object from a file; `what` names it in errors, `fix` is said if it is not there.

    Raises:
        CheckpointError: the file is missing, or not such JSON.
    """
    if not path.is_file():
        raise CheckpointError(f"{what} is not there", where=path, fix=fix)
    return parse_json_object(path.read_bytes(), what=what, where=path)


def parse_json_object(raw: bytes, *, what: str, where: object) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        CheckpointError: it is not UTF-8, not JSON, not an object, or has a key twice.
    """
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{what} is not UTF-8", where=where, found=error.reason) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not valid JSON ({error})", where=where) from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{what} is not a JSON object", where=where, found=type(document).__name__)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"the key {twice!r} stands there twice")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
