"""Indexing a file: where arrays stand, and one clear error for whatever is damaged, absurd or hostile."""

import time
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.formats.flax_msgpack import index
from gptoss_weights.formats.flax_msgpack.heads import (
    array_head,
    bin_head,
    ext_head,
    map_head,
    packed_bool,
    packed_str,
    packed_uint,
)
from gptoss_weights.formats.flax_msgpack.index import index_arrays

MARK = "__msgpack_chunked_array__"
DATA = Path(__file__).parent / "data"


def array(data: bytes = bytes(12), *, shape: bytes = b"\x92\x02\x03", dtype: str = "int16", ext_type: int = 1) -> bytes:
    body = array_head(3) + shape + packed_str(dtype) + bin_head(len(data)) + data
    return ext_head(ext_type, len(body)) + body


def flat(count: int, dtype: str = "int16") -> bytes:
    return array(bytes(count * np.dtype(dtype).itemsize), shape=array_head(1) + packed_uint(count), dtype=dtype)


def packed_map(pairs: dict[str, bytes]) -> bytes:
    return map_head(len(pairs)) + b"".join(packed_str(key) + value for key, value in pairs.items())


def chunked(**replaced: bytes) -> bytes:
    """An array [3, 2] in two chunks, or one of its parts replaced or added."""
    parts = {
        "mark": packed_bool(True),
        "shape": packed_map({"0": packed_uint(3), "1": packed_uint(2)}),
        "chunks": packed_map({"0": flat(4), "1": flat(2)}),
    }
    return packed_map({MARK if name == "mark" else name: part for name, part in (parts | replaced).items()})


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "tree.msgpack"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        index_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    return message.removeprefix(f"{path}: ")


def test_a_leaf_is_found_with_its_shape_dtype_and_place(tmp_path: Path) -> None:
    path = tmp_path / "tree.msgpack"
    path.write_bytes(packed_map({"a": packed_map({"b": array(b"123456789012")}), "c": array()}))
    arrays = index_arrays(path)
    assert list(arrays) == [("a", "b"), ("c",)]
    found = arrays["a", "b"]
    (piece,) = found.pieces
    assert (found.shape, found.dtype) == ((2, 3), np.int16)
    assert path.read_bytes()[piece.offset :][: piece.nbytes] == b"123456789012"


def test_chunks_are_put_in_the_order_of_their_numbers_wherever_they_stand(tmp_path: Path) -> None:
    chunks = {"1": array(b"cd", shape=b"\x91\x01"), "0": array(b"ab", shape=b"\x91\x01")}
    shape = packed_map({"1": packed_uint(2), "0": packed_uint(1)})
    path = tmp_path / "tree.msgpack"
    path.write_bytes(packed_map({"w": chunked(chunks=packed_map(chunks), shape=shape)}))
    found = index_arrays(path)["w",]
    assert found.shape == (1, 2)
    assert b"".join(path.read_bytes()[piece.offset :][: piece.nbytes] for piece in found.pieces) == b"abcd"


def test_a_file_of_flax_is_indexed_leaf_for_leaf() -> None:
    whole, cut = index_arrays(DATA / "whole.msgpack"), index_arrays(DATA / "cut.msgpack")
    assert {at: found.shape for at, found in whole.items()} == {at: found.shape for at, found in cut.items()}
    assert {found.dtype for found in whole.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert {found.dtype for found in cut.values()} == {np.dtype(np.float32)}
    assert {len(found.pieces) for found in whole.values()} == {1}
    assert len(cut["block_0", "mlp", "mlp1_weight"].pieces) == 33  # 2·64·64 values, 250 to a chunk


def test_numbers_of_a_shape_may_be_of_any_width(tmp_path: Path) -> None:
    path = tmp_path / "tree.msgpack"
    path.write_bytes(packed_map({"w": array(shape=b"\xdc\x00\x02\xd3\0\0\0\0\0\0\0\x02\xcd\0\x03")}))
    assert index_arrays(path)["w",].shape == (2, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git-LFS pointer"),
        (b"<!DOCTYPE html><html>", "the file is an HTML page"),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0", "the file is a pickle, which is never opened"),
        (b"PK\x03\x04", "the file is a zip or pickle archive, which is never opened"),
        (b"\x93\x01\x02\x03", "this is no Flax tree: it does not begin with a map; expected a map; found array"),
        (b'{"a": 1}', "this is no Flax tree: it does not begin with a map; expected a map; found int"),
        (b"\xc1", "byte 0: the byte 0xc1 begins no msgpack value"),
    ],
)
def test_files_that_are_something_else_are_called_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    assert refusal(tmp_path, content).startswith(message)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        index_arrays(tmp_path / "absent.msgpack")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xc0", "this is no array; expected a map or an ext value that holds an array; found nil"),
        (packed_str("text"), "this is no array; expected a map or an ext value that holds an array; found str"),
        (b"\x93\x01\x02\x03", "this is no array; expected a map or an ext value that holds an array; found array"),
        (b"\x07", "this is no array; found 7"),
        (b"\xc3", "this is no array; found True"),
        (array(ext_type=2), "this is no array; expected ext type 1; found 2, a complex number"),
        (array(ext_type=3), "this is no array; expected ext type 1; found 3, a NumPy scalar"),
        (array(ext_type=-1), "this is no array; expected ext type 1; found -1, unknown to flax"),
        (array(dtype="float17"), "unknown dtype; expected one of bool, int8"),
        (array(dtype="object"), "unknown dtype"),
        (array(dtype="x" * 33), "the dtype is no short string; found str of 33"),
        (array(bytes(11)), "shape and dtype do not fit the bytes; expected 12 bytes for [2, 3] of int16; found 11"),
        (array(shape=b"\x91\xff"), "the shape is no list of sizes ≥ 0; found [-1]"),
        (array(shape=b"\x91\xc3"), "the shape is no list of sizes ≥ 0"),
        (array(shape=b"\x92" + 2 * b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "shape and dtype do not fit the bytes"),
        (array(shape=b"\xdc\x00\x21" + bytes(33)), "the shape is no list of at most 32 sizes; found array of 33"),
        (array(shape=b"\x06"), "the shape is no list of at most 32 sizes; found int of 6"),
        (ext_head(1, 1) + b"\x00", "the array is not [shape, dtype, bytes]; found int of 0"),
        (ext_head(1, 3) + b"\x92\x90\xa0", "the array is not [shape, dtype, bytes]; found array of 2"),
        (ext_head(1, 8) + b"\x93\x90\xa4bool\xa0", "the array's data are not raw bytes; expected bin; found str"),
        (ext_head(1, 12) + b"\x93\x90\xa4bool\xc4\x01\x00\xc0\xc0", "the array does not fill its ext value"),
        (ext_head(1, 8) + b"\x93\x90\xa4bool\xc4\x01\x00", "the array does not fill its ext value"),
    ],
)
def test_values_that_are_no_arrays_are_refused(tmp_path: Path, value: bytes, message: str) -> None:
    assert refusal(tmp_path, packed_map({"a": packed_map({"w": value})})).startswith(f"a/w: {message}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (chunked(mark=packed_bool(False)), f"w: the chunked array is not {{{MARK}: true, shape, chunks}}"),
        (chunked(more=array()), f"w: the chunked array is not {{{MARK}: true, shape, chunks}}; found 4 keys"),
        (packed_map({MARK: packed_bool(True)}), 'w/shape: a part of the chunked array is no map of "0", "1", …'),
        (chunked(shape=packed_map({"1": packed_uint(6)})), "w/shape: a part of the chunked array is no map"),
        (chunked(shape=packed_map({"0": b"\xfa"})), "w/shape: the shape is not at most 32 sizes ≥ 0"),
        (chunked(shape=packed_map({"0": array()})), "w/shape: the shape is not at most 32 sizes ≥ 0"),
        (chunked(shape=packed_map({"0": b"\xc3"})), "w/shape: the shape is not at most 32 sizes ≥ 0"),
        (chunked(shape=packed_map({"0": b"\x07"})), "w: the chunks do not fill the shape; expected 7 elements for [7]"),
        (chunked(chunks=map_head(0)), "w/chunks: the chunks are not flat arrays of one dtype"),
        (chunked(chunks=packed_map({"0": array()})), "w/chunks: the chunks are not flat arrays of one dtype"),
        (chunked(chunks=packed_map({"0": b"\x06"})), "w/chunks: the chunks are not flat arrays of one dtype"),
        (chunked(chunks=packed_map({"0": flat(4), "1": flat(2, "int8")})), "w/chunks: the chunks are not flat arrays"),
    ],
)
def test_chunked_arrays_that_do_not_add_up_are_refused(tmp_path: Path, value: bytes, message: str) -> None:
    assert refusal(tmp_path, packed_map({"w": value})).startswith(message)


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    twice = map_head(2) + 2 * (packed_str("kernel") + array())
    assert refusal(tmp_path, packed_map({"a": twice})) == "a/kernel: the key stands there twice"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"\x05", "a: a key is no short string; expected str of at most 128 bytes; found int"),
        (b"\xc4\x01a", "a: a key is no short string; expected str of at most 128 bytes; found bin of 1 bytes"),
        (packed_str("k" * 129), "a: a key is no short string; expected str of at most 128 bytes; found str of 129 bytes"),
        (b"\xa1\xff", "a: a key is not UTF-8; found b'\\xff'"),
    ],
)
def test_a_key_that_is_no_short_string_is_refused(tmp_path: Path, key: bytes, message: str) -> None:
    assert refusal(tmp_path, packed_map({"a": map_head(1) + key + array()})) == message


def test_bytes_after_the_tree_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, packed_map({"w": array()}) + b"\0\0") == "bytes follow the tree; found 2 bytes more"


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = packed_map({"v": array(), "w": chunked()})
    for length in range(1, len(content)):
        assert "the file is truncated, or a length in it is wrong" in refusal(tmp_path, content[:length])


def test_maps_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    bomb = (map_head(1) + packed_str("a")) * 1_000_000 + array()
    message = refusal(tmp_path, bomb)
    assert message.startswith("a/a/a/a/a/a/a/a/a/a: the tree is nested too deeply; expected at most 10 maps")


def test_a_bomb_of_small_values_is_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    count = 500_000
    bomb = map_head(count) + b"".join(packed_str(f"{number:07d}") + b"\x01" for number in range(count))
    started = time.process_time()
    tracemalloc.start()
    message = refusal(tmp_path, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message == "the tree is larger than that of any GPT-OSS; expected at most 65536 values"
    assert peak < 24 << 20, "bytes; half a million values would take several times that"
    assert time.process_time() - started < 10


def test_the_bound_on_values_leaves_room_for_the_largest_model() -> None:
    leaves_of_a_layer, maps_of_a_layer, chunks_of_a_layer = 13, 8, 2 * 16  # 120b in float32
    assert 36 * (leaves_of_a_layer + maps_of_a_layer + chunks_of_a_layer) * 10 < index.MAX_VALUES
