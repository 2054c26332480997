"""The heads of msgpack values: which kind of value begins here, and how long it is.

A head is a tag byte and up to eight bytes of length or value, big endian. Only heads are read and
made here; the bodies, gigabytes of them, are skipped or streamed by others. (The msgpack package
would copy every body that it passes.)

Source: msgpack/msgpack, spec.md.
"""

import dataclasses
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gptoss_weights.errors import CheckpointError

__all__ = [
    "Cursor",
    "Head",
    "array_head",
    "bin_head",
    "ext_head",
    "map_head",
    "packed_bool",
    "packed_str",
    "packed_uint",
]

type Kind = Literal["array", "bin", "bool", "ext", "float", "int", "map", "nil", "str"]

# Tag → kind and width of the length that follows; that of an ext is followed by its type.
_SIZED: Mapping[int, tuple[Kind, int]] = {
    0xC4: ("bin", 1),
    0xC5: ("bin", 2),
    0xC6: ("bin", 4),
    0xC7: ("ext", 1),
    0xC8: ("ext", 2),
    0xC9: ("ext", 4),
    0xD9: ("str", 1),
    0xDA: ("str", 2),
    0xDB: ("str", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}
_FIXED_EXTS: Mapping[int, int] = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_UNSIGNED: Mapping[int, int] = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED: Mapping[int, int] = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FLOATS: Mapping[int, int] = {0xCA: 4, 0xCB: 8}
_NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_LEAST_BYTES: Mapping[Kind, int] = {"array": 1, "bin": 1, "ext": 1, "map": 2, "str": 1}  # per unit of length


@dataclasses.dataclass(frozen=True)
class Head:
    """What a value is.

    Attributes:
        kind: Its kind.
        value: Pairs of a map, items of an array, bytes of a str, bin or ext; the number itself of
            an int or a bool; 0 otherwise.
        ext_type: Type of an ext, −128 … 127.
    """

    kind: Kind
    value: int = 0
    ext_type: int = 0


class Cursor:
    """Reads heads one after the other from a file's bytes; no length may reach past their end.

    Args:
        data: The whole file.
        path: Names it in errors.
    """

    def __init__(self, data: bytes | mmap.mmap, path: Path) -> None:
        self.position = 0
        self._data = data
        self._size = len(data)
        self._path = path

    @property
    def remaining(self) -> int:
        """Number of bytes from here to the end."""
        return self._size - self.position

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            CheckpointError: so many are not left.
        """
        self.skip(count)
        return self._data[self.position - count : self.position]

    def skip(self, count: int) -> None:
        """Passes over bytes without reading them.

        Raises:
            CheckpointError: so many are not left.
        """
        if count > self.remaining:
            raise self._truncated(f"{count} more bytes")
        self.position += count

    def head(self) -> Head:
        """The next head; the cursor then stands on the body.

        Raises:
            CheckpointError: the tag is none of msgpack's, or the body would reach past the end.
        """
        head = self._head()
        least = _LEAST_BYTES.get(head.kind, 0) * head.value
        if least > self.remaining:
            raise self._truncated(f"at least {least} bytes for {head.kind} of length {head.value}")
        return head

    def _head(self) -> Head:
        tag = self._number(1)
        if tag < 0x80:
            return Head("int", tag)
        if tag < 0x90:
            return Head("map", tag & 0x0F)
        if tag < 0xA0:
            return Head("array", tag & 0x0F)
        if tag < 0xC0:
            return Head("str", tag & 0x1F)
        if tag >= 0xE0:
            return Head("int", tag - 0x100)
        if tag in _SIZED:
            kind, width = _SIZED[tag]
            length = self._number(width)
            return Head(kind, length, self._number(1, signed=True) if kind == "ext" else 0)
        if tag in _FIXED_EXTS:
            return Head("ext", _FIXED_EXTS[tag], self._number(1, signed=True))
        if tag in _UNSIGNED:
            return Head("int", self._number(_UNSIGNED[tag]))
        if tag in _SIGNED:
            return Head("int", self._number(_SIGNED[tag], signed=True))
        if tag in _FLOATS:
            self.skip(_FLOATS[tag])
            return Head("float")
        if tag in (_FALSE, _TRUE):
            return Head("bool", tag - _FALSE)
        if tag == _NIL:
            return Head("nil")
        raise CheckpointError(f"the byte 0x{tag:02x} begins no msgpack value", where=self._here(self.position - 1))

    def _number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "big", signed=signed)

    def _truncated(self, expected: str) -> CheckpointError:
        return CheckpointError(
            "the file is truncated, or a length in it is wrong",
            where=self._here(self.position),
            expected=expected,
            found=f"{self.remaining} bytes up to its end",
            fix="Download or copy it again.",
        )

    def _here(self, position: int) -> str:
        return f"{self._path}: byte {position}"


def map_head(pairs: int) -> bytes:
    """The head of a map."""
    return bytes([0x80 | pairs]) if pairs < 16 else _shortest(pairs, {2: 0xDE, 4: 0xDF})


def array_head(items: int) -> bytes:
    """The head of an array."""
    return bytes([0x90 | items]) if items < 16 else _shortest(items, {2: 0xDC, 4: 0xDD})


def bin_head(nbytes: int) -> bytes:
    """The head of raw bytes."""
    return _shortest(nbytes, {1: 0xC4, 2: 0xC5, 4: 0xC6})


def ext_head(ext_type: int, nbytes: int) -> bytes:
    """The head of a value of an application's own type."""
    tags = [tag for tag, size in _FIXED_EXTS.items() if size == nbytes]
    head = bytes(tags) if tags else _shortest(nbytes, {1: 0xC7, 2: 0xC8, 4: 0xC9})
    return head + ext_type.to_bytes(1, signed=True)


def packed_str(text: str) -> bytes:
    """A whole string."""
    body = text.encode()
    head = bytes([0xA0 | len(body)]) if len(body) < 32 else _shortest(len(body), {1: 0xD9, 2: 0xDA, 4: 0xDB})
    return head + body


def packed_uint(number: int) -> bytes:
    """A whole number ≥ 0."""
    return bytes([number]) if number < 0x80 else _shortest(number, {width: tag for tag, width in _UNSIGNED.items()})


def packed_bool(value: bool) -> bytes:
    """A truth value."""
    return bytes([_TRUE if value else _FALSE])


def _shortest(number: int, tag_of_width: Mapping[int, int]) -> bytes:
    """The tag and the number in the fewest bytes that hold it.

    Raises:
        OverflowError: none does.
    """
    for width, tag in tag_of_width.items():
        if number < 1 << (8 * width):
            return bytes([tag]) + number.to_bytes(width, "big")
    raise OverflowError(f"{number} is too large for msgpack")
