"""The encoding of a tree: byte for byte what flax.serialization writes."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights.formats.flax_msgpack import encoding
from gptoss_weights.formats.flax_msgpack.encoding import Form, Payload, encode_tree
from hypothesis import given
from hypothesis import strategies as st

type Tree = Mapping[tuple[str, ...], np.ndarray]

NO_FLAX = "the oracle, flax, is not installed"
DTYPES = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)]
TREE: Tree = {
    ("b",): np.arange(6, dtype=np.float32).reshape(2, 3),
    ("a", "y"): np.arange(130, dtype=np.float32).reshape(13, 10),
    ("a", "x", "kernel"): np.arange(300, dtype=np.float32).astype(ml_dtypes.bfloat16),
    ("block_10",): np.ones((1,), ml_dtypes.bfloat16),
    ("block_2",): np.array(3, np.float32),
}


def encoded(tree: Tree) -> bytes:
    payloads = {path: memoryview(array.tobytes()) for path, array in tree.items()}
    file = b""
    for piece in encode_tree({path: Form(array.shape, array.dtype) for path, array in tree.items()}):
        if isinstance(piece, Payload):
            file += payloads[piece.path][: piece.nbytes]
            payloads[piece.path] = payloads[piece.path][piece.nbytes :]
        else:
            file += piece
    assert not any(payloads.values()), "every payload was used to its end"
    return file


def nested(tree: Tree) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, array in tree.items():
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = array
    return root


def test_an_array_is_an_ext_of_shape_dtype_and_bytes_and_keys_are_sorted() -> None:
    tree = {("b",): np.array([258], "<f4"), ("a", "c"): np.array([[1, 2]], ml_dtypes.bfloat16)}
    a = b"\x93" + b"\x92\x01\x02" + b"\xa8bfloat16" + b"\xc4\x04" + b"\x80\x3f\x00\x40"
    b = b"\x93" + b"\x91\x01" + b"\xa7float32" + b"\xc4\x04" + b"\x00\x00\x81\x43"
    assert encoded(tree) == b"\x82\xa1a\x81\xa1c\xc7\x13\x01" + a + b"\xa1b\xc7\x11\x01" + b


def test_an_array_above_the_limit_is_cut_into_numbered_flat_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_CHUNK_BYTES", 8)
    chunk = b"\xc7\x15\x01\x93\x91\x02\xa7float32\xc4\x08" + bytes(8)
    last = b"\xc7\x11\x01\x93\x91\x01\xa7float32\xc4\x04" + bytes(4)
    assert encoded({("w",): np.zeros((3, 1), np.float32)}) == (
        b"\x81\xa1w\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x82\xa10\x03\xa11\x01"
        b"\xa6chunks\x82\xa10" + chunk + b"\xa11" + last
    )


@pytest.mark.parametrize("limit", [2**30, 1000, 600, 599, 64, 7, 1])
def test_files_are_those_of_flax_whatever_its_chunk_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    serialization = pytest.importorskip("flax.serialization", reason=NO_FLAX)
    monkeypatch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", limit)
    file = encoded(TREE)
    assert file == serialization.msgpack_serialize(nested(TREE))
    assert file == serialization.to_bytes(nested(dict(sorted(TREE.items()))))


def test_the_chunk_limit_is_that_of_flax() -> None:
    serialization = pytest.importorskip("flax.serialization", reason=NO_FLAX)
    assert serialization.MAX_CHUNK_SIZE == encoding.MAX_CHUNK_BYTES


@given(
    st.dictionaries(st.text("ab_1\u00e9", min_size=1, max_size=40), st.integers(0, 5), min_size=1, max_size=20),
    st.sampled_from([2**30, 50, 3]),
    st.data(),
)
def test_random_trees_are_written_as_flax_writes_them(keys: dict[str, int], limit: int, data: st.DataObject) -> None:
    serialization = pytest.importorskip("flax.serialization", reason=NO_FLAX)
    tree: dict[tuple[str, ...], np.ndarray] = {}
    for key, depth in keys.items():
        shape = data.draw(st.lists(st.integers(1, 9), max_size=3))
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(data.draw(st.sampled_from(DTYPES)))
        tree[(*(["sub"] * depth), key)] = array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
        patch.setattr(serialization, "MAX_CHUNK_SIZE", limit)
        assert encoded(tree) == serialization.msgpack_serialize(nested(tree))
