"""The header reader accepts what the safetensors library writes, and no file that disagrees with itself."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gptoss_weights import CheckpointError
from gptoss_weights.formats.safetensors_files import read_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:725b7f996b5a\nsize 13750886400\n"


def test_header_of_library_written_file_gives_offsets_of_every_array(tmp_path: Path) -> None:
    arrays = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "brain": np.arange(5).astype(ml_dtypes.bfloat16),
        "bytes": np.arange(7, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
    }
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})

    header = read_header(path)

    assert set(header) == set(arrays)
    content = path.read_bytes()
    for name, array in arrays.items():
        stored = header[name]
        assert (stored.shape, stored.dtype) == (array.shape, array.dtype)
        assert content[stored.offset : stored.offset + stored.nbytes] == array.tobytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\x01\x02", "too short for safetensors; found 2 bytes"),
        ((2**63).to_bytes(8, "little"), "its header would be too large"),
        ((101_000_000).to_bytes(8, "little") + b"{}", "its header would be too large"),
        ((99).to_bytes(8, "little") + b"{}", "truncated within its header; expected 99 bytes of header; found 2"),
        (LFS_POINTER, "is a Git-LFS pointer, not the weights. Fetch the file with `git lfs pull`"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is an HTML page, not the weights"),
        (b"\n <html>", "is an HTML page, not the weights"),
        (b"PK\x03\x04 archive/data.pkl", "zip or pickle archive, which is never opened"),
        (b"\x80\x02}q\x00.", "is a pickle, which is never opened"),
    ],
)
def test_what_is_no_safetensors_file_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"not json", b"", "the header is not valid JSON"),
        (b'{"a": NaN}', b"", "NaN is no JSON number"),
        (b"[" * 100_000, b"", "the header is nested too deeply"),
        (b'{"\xff": 1}', b"", "the header is not UTF-8"),
        (b"[]", b"", "the header is not a JSON object"),
        (
            b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
            b"1234",
            "the key 'a' stands there twice",
        ),
        ({"a": 3}, b"", "a: the header entry is not {dtype, shape, data_offsets}"),
        ({"a": ENTRY | {"dtype": "U3"}}, b"1234", "a: unknown dtype"),
        ({"a": ENTRY | {"dtype": ["U8"]}}, b"1234", "a: unknown dtype"),
        ({"a": ENTRY | {"shape": [-4]}}, b"1234", "a: the shape is not a list of sizes"),
        ({"a": ENTRY | {"shape": [True]}}, b"1234", "a: the shape is not a list of sizes"),
        ({"a": ENTRY | {"shape": 4}}, b"1234", "a: the shape is not a list of sizes"),
        ({"a": ENTRY | {"data_offsets": [4, 0]}}, b"1234", "a: data_offsets are not [begin, end]"),
        ({"a": ENTRY | {"data_offsets": [0]}}, b"1234", "a: data_offsets are not [begin, end]"),
        ({"a": ENTRY | {"shape": [2**40, 2**40]}}, b"1234", "a: the size overflows 63 bits"),
        ({"a": ENTRY | {"shape": [5]}}, b"1234", "expected 5 bytes for [5] of U8; found 4 bytes"),
        ({"a": ENTRY | {"data_offsets": [4, 8]}}, b"12345678", "a: there is a hole before the tensor"),
        ({"a": ENTRY, "b": ENTRY | {"data_offsets": [6, 10]}}, b"1234567890", "b: there is a hole before the tensor"),
        ({"a": ENTRY, "b": ENTRY | {"data_offsets": [2, 6]}}, b"123456", "b: the tensor overlaps the one before it"),
        ({"a": ENTRY, "b": ENTRY}, b"1234", "overlaps the one before it"),
        ({"a": ENTRY}, b"123", "the file is truncated: it ends before the end of a"),
        ({"a": ENTRY}, b"12345", "bytes follow the last tensor"),
        ({}, b"1", "bytes follow the last tensor"),
    ],
)
def test_header_that_disagrees_with_itself_or_the_file_is_refused(
    tmp_path: Path, write_safetensors: Callable[..., Path], header: object, data: bytes, words: str
) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", header, data)
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_header(tmp_path / "model.safetensors")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_header(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "BF16", "F32", "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 20), min_size=2, max_size=2) | json_values,
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(header=st.dictionaries(st.text(max_size=3), entries, max_size=3), data=st.binary(max_size=20))
def test_whatever_header_is_accepted_accounts_for_every_byte(
    tmp_path: Path, write_safetensors: Callable[..., Path], header: dict[str, object], data: bytes
) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", header, data)
    try:
        arrays = read_header(path)
    except CheckpointError:
        return
    assert sum(array.nbytes for array in arrays.values()) == len(data)
    assert set(arrays) == set(json.loads(json.dumps(header)))
