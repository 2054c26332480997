"""Where every array of a flax.serialization file stands: one pass over its structure, payloads skipped.

The file is mapped into memory and only heads are looked at, so a 40 GB file is indexed in a few
page reads. Nothing is allocated on the word of a length: depth, number of values and length of keys
are bounded far above what any GPT-OSS tree has, and every length is held against the file's end.
"""

import dataclasses
import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.flax_msgpack.encoding import ARRAY_EXT_TYPE, CHUNKED_MARK
from gptoss_weights.formats.flax_msgpack.heads import Cursor, Head
from gptoss_weights.formats.flax_msgpack.tree import TreePath
from gptoss_weights.formats.impostors import LOOKED_AT_BYTES, refuse_impostors

__all__ = ["IndexedArray", "index_arrays"]

MAX_DEPTH = 10  # maps within maps; a chunk of a kernel lies 6 deep
MAX_VALUES = 1 << 16  # the whole of gpt-oss-120b in float32 has about 2000
MAX_KEY_BYTES = 128
MAX_RANK = 32
MAX_DTYPE_BYTES = 32

_DTYPES: Mapping[str, np.dtype] = {
    np.dtype(scalar).name: np.dtype(scalar)
    for scalar in (
        *(np.bool, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    )
}
_OTHER_EXT_TYPES: Mapping[int, str] = {2: "a complex number", 3: "a NumPy scalar"}

type _Node = IndexedArray | int | bool | dict[str, "_Node"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexedArray:
    """An array of the tree: flat pieces in order, a single one unless flax cut it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: tuple[StoredArray, ...]


def index_arrays(path: Path) -> dict[TreePath, IndexedArray]:
    """Every array by its path in the tree.

    Raises:
        CheckpointError: the file is something else, damaged or truncated, or holds what is no array.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where=path)
    with path.open("rb") as file:
        refuse_impostors(path, file.read(LOOKED_AT_BYTES), wanted="a file that flax.serialization wrote")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Indexer(data, path).arrays()


class _Indexer:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._cursor = Cursor(data, path)
        self._path = path
        self._values = 0

    def arrays(self) -> dict[TreePath, IndexedArray]:
        head = self._cursor.head()
        if head.kind != "map":
            raise self._error(
                (), "this is no Flax tree: it does not begin with a map", expected="a map", found=head.kind
            )
        root = self._map(head, ())
        if self._cursor.remaining:
            raise self._error((), "bytes follow the tree", found=f"{self._cursor.remaining} bytes more")
        arrays: dict[TreePath, IndexedArray] = {}
        self._flatten(root, (), arrays)
        return arrays

    def _node(self, at: TreePath) -> _Node:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._error(
                (), "the tree is larger than that of any GPT-OSS", expected=f"at most {MAX_VALUES} values"
            )
        head = self._cursor.head()
        if head.kind == "map":
            return self._map(head, at)
        if head.kind == "ext":
            return self._array(head, at)
        if head.kind == "int":
            return head.value
        if head.kind == "bool":
            return bool(head.value)
        raise self._error(at, "this is no array", expected="a map or an ext value that holds an array", found=head.kind)

    def _map(self, head: Head, at: TreePath) -> dict[str, _Node]:
        if len(at) >= MAX_DEPTH:
            expected = f"at most {MAX_DEPTH} maps within each other"
            raise self._error(at, "the tree is nested too deeply", expected=expected)
        nodes: dict[str, _Node] = {}
        for _ in range(head.value):
            key = self._key(at)
            if key in nodes:
                raise self._error((*at, key), "the key stands there twice")
            nodes[key] = self._node((*at, key))
        return nodes

    def _key(self, at: TreePath) -> str:
        head = self._cursor.head()
        if head.kind != "str" or head.value > MAX_KEY_BYTES:
            found = f"{head.kind} of {head.value} bytes" if head.kind in ("str", "bin", "ext") else head.kind
            expected = f"str of at most {MAX_KEY_BYTES} bytes"
            raise self._error(at, "a key is no short string", expected=expected, found=found)
        raw = self._cursor.take(head.value)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._error(at, "a key is not UTF-8", found=repr(raw)) from None

    def _array(self, head: Head, at: TreePath) -> IndexedArray:
        """The array in an ext value: [shape, name of the dtype, bytes]."""
        if head.ext_type != ARRAY_EXT_TYPE:
            found = f"{head.ext_type}, {_OTHER_EXT_TYPES.get(head.ext_type, 'unknown to flax')}"
            raise self._error(at, "this is no array", expected=f"ext type {ARRAY_EXT_TYPE}", found=found)
        end = self._cursor.position + head.value
        triple = self._cursor.head()
        if (triple.kind, triple.value) != ("array", 3):
            found = f"{triple.kind} of {triple.value}"
            raise self._error(at, "the array is not [shape, dtype, bytes]", found=found)
        shape, dtype = self._shape(at), self._dtype(at)
        data = self._cursor.head()
        if data.kind != "bin":
            raise self._error(at, "the array's data are not raw bytes", expected="bin", found=data.kind)
        stored = StoredArray(path=self._path, offset=self._cursor.position, dtype=dtype, shape=shape)
        nbytes = math.prod(shape) * dtype.itemsize
        if data.value != nbytes:
            raise self._error(
                at,
                "shape and dtype do not fit the bytes",
                expected=f"{nbytes} bytes for {list(shape)} of {dtype}",
                found=f"{data.value} bytes",
            )
        self._cursor.skip(nbytes)
        if self._cursor.position != end:
            raise self._error(
                at,
                "the array does not fill its ext value",
                expected=f"an end at byte {end}",
                found=f"byte {self._cursor.position}",
            )
        return IndexedArray(shape=shape, dtype=dtype, pieces=(stored,))

    def _shape(self, at: TreePath) -> tuple[int, ...]:
        head = self._cursor.head()
        if head.kind != "array" or head.value > MAX_RANK:
            found = f"{head.kind} of {head.value}"
            raise self._error(at, f"the shape is no list of at most {MAX_RANK} sizes", found=found)
        sizes = [self._cursor.head() for _ in range(head.value)]
        if any(size.kind != "int" or size.value < 0 for size in sizes):
            raise self._error(at, "the shape is no list of sizes ≥ 0", found=[size.value for size in sizes])
        return tuple(size.value for size in sizes)

    def _dtype(self, at: TreePath) -> np.dtype:
        head = self._cursor.head()
        if head.kind != "str" or head.value > MAX_DTYPE_BYTES:
            raise self._error(at, "the dtype is no short string", found=f"{head.kind} of {head.value}")
        name = self._cursor.take(head.value).decode(errors="backslashreplace")
        if name not in _DTYPES:
            raise self._error(at, "unknown dtype", expected=f"one of {', '.join(_DTYPES)}", found=repr(name))
        return _DTYPES[name]

    def _flatten(self, nodes: dict[str, _Node], at: TreePath, arrays: dict[TreePath, IndexedArray]) -> None:
        for key, node in nodes.items():
            path = (*at, key)
            if isinstance(node, IndexedArray):
                arrays[path] = node
            elif not isinstance(node, dict):
                raise self._error(path, "this is no array", found=repr(node))
            elif CHUNKED_MARK in node:
                arrays[path] = self._joined(node, path)
            else:
                self._flatten(node, path, arrays)

    def _joined(self, node: dict[str, _Node], at: TreePath) -> IndexedArray:
        """The array that flax cut into chunks."""
        shape = self._numbered(node.get("shape"), (*at, "shape"))
        chunks = self._numbered(node.get("chunks"), (*at, "chunks"))
        if set(node) != {CHUNKED_MARK, "shape", "chunks"} or node[CHUNKED_MARK] is not True:
            what = f"the chunked array is not {{{CHUNKED_MARK}: true, shape, chunks}}"
            raise self._error(at, what, found=f"{len(node)} keys")
        sizes = [size for size in shape if type(size) is int and size >= 0]
        if len(sizes) != len(shape) or len(sizes) > MAX_RANK:
            raise self._error((*at, "shape"), f"the shape is not at most {MAX_RANK} sizes ≥ 0")
        arrays = [chunk for chunk in chunks if isinstance(chunk, IndexedArray)]
        forms = {(len(array.shape), array.dtype) for array in arrays}
        if len(arrays) != len(chunks) or [rank for rank, _ in forms] != [1]:
            raise self._error((*at, "chunks"), "the chunks are not flat arrays of one dtype")
        elements = sum(array.shape[0] for array in arrays)
        if elements != math.prod(sizes):
            raise self._error(
                at,
                "the chunks do not fill the shape",
                expected=f"{math.prod(sizes)} elements for {sizes}",
                found=f"{elements} in {len(arrays)} chunks",
            )
        pieces = tuple(piece for array in arrays for piece in array.pieces)
        return IndexedArray(shape=tuple(sizes), dtype=arrays[0].dtype, pieces=pieces)

    def _numbered(self, node: _Node | None, at: TreePath) -> list[_Node]:
        """The values of a map whose keys are "0", "1", …, in that order."""
        if not isinstance(node, dict) or set(node) != set(map(str, range(len(node)))):
            raise self._error(at, 'a part of the chunked array is no map of "0", "1", …')
        return [node[str(number)] for number in range(len(node))]

    def _error(self, at: TreePath, what: str, *, expected: object = None, found: object = None) -> CheckpointError:
        where = f"{self._path}: {'/'.join(at)}" if at else self._path
        return CheckpointError(what, where=where, expected=expected, found=found)
