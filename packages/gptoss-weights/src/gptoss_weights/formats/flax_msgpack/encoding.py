"""How flax.serialization writes a tree of arrays: the structure as bytes, the payloads as gaps to fill.

Maps have their keys sorted, as after any `jax.tree.map`, so that `to_bytes` and `msgpack_serialize`
agree. An array is an ext value of type 1 that holds [shape, name of the dtype, bytes in C order].
One above 2³⁰ bytes is flattened and cut: {"__msgpack_chunked_array__": true, "shape": {"0": …},
"chunks": {"0": array, …}}, in this order.

Source: google/flax flax/serialization.py, `_ndarray_to_bytes`, `_chunk`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from gptoss_weights.formats.flax_msgpack.heads import (
    array_head,
    bin_head,
    ext_head,
    map_head,
    packed_bool,
    packed_str,
    packed_uint,
)
from gptoss_weights.formats.flax_msgpack.tree import TreePath

__all__ = ["ARRAY_EXT_TYPE", "CHUNKED_MARK", "Form", "Payload", "encode_tree"]

ARRAY_EXT_TYPE = 1  # flax/serialization.py, _MsgpackExtType.ndarray
CHUNKED_MARK = "__msgpack_chunked_array__"
MAX_CHUNK_BYTES = 2**30  # flax/serialization.py, MAX_CHUNK_SIZE


@dataclasses.dataclass(frozen=True)
class Form:
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Payload:
    """A gap for the next `nbytes` bytes of the array at `path`, which are in C order."""

    path: TreePath
    nbytes: int


def encode_tree(forms: Mapping[TreePath, Form]) -> Iterator[bytes | Payload]:
    """The file of a tree whose arrays stand at these paths, from its first byte to its last."""
    yield from _map((), forms)


def _map(at: TreePath, forms: Mapping[TreePath, Form]) -> Iterator[bytes | Payload]:
    children: dict[str, dict[TreePath, Form]] = {}
    for path, form in forms.items():
        children.setdefault(path[len(at)], {})[path] = form
    yield map_head(len(children))
    for key in sorted(children):
        yield packed_str(key)
        path = (*at, key)
        if path in forms:
            yield from _leaf(path, forms[path])
        else:
            yield from _map(path, children[key])


def _leaf(path: TreePath, form: Form) -> Iterator[bytes | Payload]:
    if form.nbytes <= MAX_CHUNK_BYTES:
        yield from _array(path, form)
        return
    elements = math.prod(form.shape)
    chunk_elements = max(1, MAX_CHUNK_BYTES // form.dtype.itemsize)
    yield map_head(3) + packed_str(CHUNKED_MARK) + packed_bool(True) + packed_str("shape") + map_head(len(form.shape))
    for axis, extent in enumerate(form.shape):
        yield packed_str(str(axis)) + packed_uint(extent)
    starts = range(0, elements, chunk_elements)
    yield packed_str("chunks") + map_head(len(starts))
    for number, start in enumerate(starts):
        yield packed_str(str(number))
        yield from _array(path, Form((min(chunk_elements, elements - start),), form.dtype))


def _array(path: TreePath, form: Form) -> Iterator[bytes | Payload]:
    head = array_head(3) + array_head(len(form.shape))
    head += b"".join(map(packed_uint, form.shape)) + packed_str(form.dtype.name) + bin_head(form.nbytes)
    yield ext_head(ARRAY_EXT_TYPE, len(head) + form.nbytes) + head
    yield Payload(path, form.nbytes)
