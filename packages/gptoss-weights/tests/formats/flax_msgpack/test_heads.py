"""Heads of msgpack values: read as the specification says, made as the msgpack package makes them."""

from pathlib import Path

import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.formats.flax_msgpack.heads import (
    Cursor,
    Head,
    array_head,
    bin_head,
    ext_head,
    map_head,
    packed_bool,
    packed_str,
    packed_uint,
)

FILE = Path("tree.msgpack")
# Around every width of a length, the fixed lengths of exts included.
LENGTHS = [0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 127, 128, 255, 256, 65535, 65536]
UNSIGNED_TAGS = [(0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)]
SIGNED_TAGS = [(0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)]


def head_of(data: bytes) -> Head:
    return Cursor(data, FILE).head()


@pytest.mark.parametrize("length", LENGTHS)
def test_every_head_is_read_as_it_was_made(length: int) -> None:
    body = bytes(2 * length)
    assert head_of(map_head(length) + body) == Head("map", length)
    assert head_of(array_head(length) + body) == Head("array", length)
    assert head_of(bin_head(length) + body) == Head("bin", length)
    assert head_of(ext_head(-5, length) + body) == Head("ext", length, -5)
    assert head_of(packed_str("x" * length)) == Head("str", length)
    assert head_of(packed_uint(length)) == Head("int", length)


@pytest.mark.parametrize("length", LENGTHS)
def test_heads_are_those_that_the_msgpack_package_makes(length: int) -> None:
    msgpack = pytest.importorskip("msgpack", reason="the oracle, the msgpack package, is not installed")
    body = bytes(length)
    packer = msgpack.Packer()
    assert map_head(length) == packer.pack_map_header(length)
    assert array_head(length) == packer.pack_array_header(length)
    assert bin_head(length) + body == msgpack.packb(body)
    assert ext_head(1, length) + body == msgpack.packb(msgpack.ExtType(1, body))
    assert packed_str("x" * length) == msgpack.packb("x" * length)
    assert packed_uint(length << 20) == msgpack.packb(length << 20)
    assert packed_bool(length > 4) == msgpack.packb(length > 4)


def test_numbers_of_every_width_and_sign_are_read() -> None:
    assert [head_of(bytes([tag]) + (200).to_bytes(width)).value for tag, width in UNSIGNED_TAGS] == [200] * 4
    for tag, width in SIGNED_TAGS:
        assert head_of(bytes([tag]) + (-100).to_bytes(width, signed=True)) == Head("int", -100)
    assert head_of(b"\xff") == Head("int", -1)


def test_floats_nil_and_truth_values_are_told_apart() -> None:
    cursor = Cursor(b"\xca1234\xcb12345678\xc0\xc2\xc3", FILE)
    heads = [cursor.head() for _ in range(5)]
    assert heads == [Head("float"), Head("float"), Head("nil"), Head("bool", 0), Head("bool", 1)]
    assert cursor.remaining == 0


def test_a_byte_that_begins_nothing_is_named_with_its_place() -> None:
    cursor = Cursor(b"\xc0\xc1", FILE)
    cursor.head()
    with pytest.raises(CheckpointError, match=r"^tree\.msgpack: byte 1: the byte 0xc1 begins no msgpack value$"):
        cursor.head()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xdf\xff\xff\xff\xff\x00", "at least 8589934590 bytes for map of length 4294967295"),
        (b"\xdd\x00\x00\x00\x05\x00", "at least 5 bytes for array of length 5"),
        (b"\xc6\x00\x00\x00\x02\x00", "at least 2 bytes for bin of length 2"),
        (b"\xc9\xff\xff\xff\xff\x01\x00", "at least 4294967295 bytes for ext of length 4294967295"),
        (b"\xde\x00", "2 more bytes"),
    ],
)
def test_a_length_past_the_end_is_refused_before_its_body_is_looked_at(data: bytes, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        head_of(data)
    assert "the file is truncated, or a length in it is wrong" in str(caught.value)
    assert f"expected {expected}; found 1 bytes up to its end" in str(caught.value)


def test_a_length_that_msgpack_cannot_say_is_refused() -> None:
    with pytest.raises(OverflowError, match="4294967296 is too large"):
        bin_head(1 << 32)
