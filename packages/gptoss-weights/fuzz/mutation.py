"""Mutates inputs where their structure is: values of JSON documents, heads of msgpack trees, plain bytes."""

import json
import random
from collections.abc import Callable
from typing import Any

__all__ = ["mutated"]

_SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, 1e-320),
    *("", "a", "../a", "/a", "a/../../b", ".", "\0", "\x1b[2J", "\n", "\ud800", "é" * 300, "a" * 5000, "NaN"),
)
_RAW = (
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"1" * 5000,
    b"[" * 2000,
    b'{"a":' * 300,
    b"\xff",
    b"\xed\xa0\x80",
    b'"\\ud800"',
)


def mutated(content: bytes, chance: random.Random, *, is_json: bool) -> bytes:
    """The input with one to four things changed.

    Args:
        content: A sound input, or one mutated before.
        chance: What decides.
        is_json: Whether to change values of the document rather than bytes, mostly.
    """
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = (
            _json_mutated(content, chance) if is_json and chance.random() < 0.8 else _bytes_mutated(content, chance)
        )
    return content


def _bytes_mutated(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    end = min(len(content), place + chance.choice((1, 1, 2, 4, 8, 64)))
    match chance.randrange(6):
        case 0:
            return content[:place] + content[end:]
        case 1:
            return content[:place] + content[place:end] * chance.choice((2, 3, 100)) + content[end:]
        case 2:
            return content[:place] + bytes([chance.choice((0, 1, 0x7F, 0x80, 0xC1, 0xDF, 0xFF))]) + content[place + 1 :]
        case 3:
            return content[:place] + chance.randbytes(end - place) + content[end:]
        case 4:
            return content[:place]
        case _:
            return content[:place] + chance.choice(_RAW) + content[end:]


def _json_mutated(content: bytes, chance: random.Random) -> bytes:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes_mutated(content, chance)
    places: list[tuple[Any, Any]] = []
    _collect(document, places)
    if not places:
        return json.dumps(chance.choice(_SCALARS)).encode()
    node, key = chance.choice(places)
    changes: list[Callable[[], None]] = [
        lambda: node.__setitem__(key, chance.choice(_SCALARS)),
        lambda: node.__setitem__(key, [node[key]] * chance.choice((0, 1, 3, 200))),
        lambda: node.__setitem__(key, {"a": node[key]}),
        lambda: node.__setitem__(key, chance.choice(places)[0]),
        lambda: node.__delitem__(key),
        lambda: _renamed(node, key, chance),
        lambda: _negated(node, key),
    ]
    chance.choice(changes)()
    try:
        text = json.dumps(document)
    except (ValueError, RecursionError):  # a node within itself
        return content
    if isinstance(key, str) and chance.random() < 0.05:  # a key twice
        text = text.replace(f'"{key}":', f'"{key}": 0, "{key}":', 1)
    return text.encode()


def _renamed(node: Any, key: Any, chance: random.Random) -> None:
    if isinstance(node, dict):
        node[chance.choice(("", "a", "\0", "x" * 300, f"{key}x", f"{key}"[:-1], f"{key}".upper()))] = node.pop(key)


def _negated(node: Any, key: Any) -> None:
    value = node[key]
    if isinstance(value, int | float):
        node[key] = -value


def _collect(node: Any, places: list[tuple[Any, Any]]) -> None:
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        places.append((node, key))
        _collect(node[key], places)
