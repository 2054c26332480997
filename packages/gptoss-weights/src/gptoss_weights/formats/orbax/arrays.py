"""The arrays of a tree, opened and held against the leaves that they should be.

Opening reads each array's own metadata and lists the chunks, so that a lost chunk is known before
anything is read.
"""

import functools
import itertools
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.orbax.array_opening import database_spec, open_array
from gptoss_weights.formats.orbax.backend import explained, load_tensorstore, shared_context
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.formats.orbax.metadata import Tree
from gptoss_weights.formats.orbax.tree import Leaf

if TYPE_CHECKING:
    import tensorstore

__all__ = ["CACHE_BYTES", "open_arrays"]

CACHE_BYTES = 2**30  # a pair of gate and up chunks of MaxText's converter, 398 MB each at 20b size, fits
_CACHED_CHUNK_BYTES = 64 * 2**20  # larger chunks hold more than one read is likely to want
_DTYPES = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32))
_ARRAY_METADATA = ("zarr.json", ".zarray", ".zattrs")
_LOCK = ".__lock"  # of TensorStore, beside a file while it is written
_SHOWN_PROBLEMS = 5


def open_arrays(
    item: Location, tree: Tree, leaves: list[Leaf], found: Collection[tuple[str, ...]]
) -> dict[str, "tensorstore.TensorStore"]:
    """Key of a leaf → its array.

    Args:
        item: The folder of the tree.
        tree: What its `_METADATA` says.
        leaves: Every leaf that should be there.
        found: The paths of the leaves that are.

    Raises:
        CheckpointError: leaves are missing, unknown, damaged, or of the wrong shape or dtype; all at once.
    """
    expected = {leaf.path for leaf in leaves}
    problems = [f"{'/'.join(keys)} is no leaf of this geometry" for keys in sorted(set(found) - expected)]
    problems += [f"{leaf.shown} is missing, expected {_form(leaf.shape)}" for leaf in leaves if leaf.path not in found]
    present = [leaf for leaf in leaves if leaf.path in found]
    pending = {leaf.key: open_array(item, tree, leaf.key) for leaf in present}
    stored_chunks = _count_chunks(item, tree) if tree.has_every_chunk else None
    arrays = {}
    for leaf in present:
        try:
            with explained("the array cannot be opened", where=leaf.shown):
                array = pending[leaf.key].result()
        except CheckpointError as error:
            problems.append(error.problem)
            continue
        problems += _mismatches(leaf, array, stored_chunks)
        arrays[leaf.key] = _cached(item, tree, leaf.key, array)
    problems += _unequal_dtypes(present, arrays)
    if problems:
        raise _gathered(item, problems)
    return arrays


def _cached(item: Location, tree: Tree, key: str, array: "tensorstore.TensorStore") -> "tensorstore.TensorStore":
    """The array itself; if its chunks are large, the same with a cache of decoded chunks."""
    if math.prod(_extents(array.chunk_layout.read_chunk)) * array.dtype.numpy_dtype.itemsize <= _CACHED_CHUNK_BYTES:
        return array
    return open_array(item, tree, key, context=_caching_context()).result()


@functools.cache
def _caching_context() -> "tensorstore.Context":
    library = load_tensorstore()
    spec = library.Context.Spec({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
    context: tensorstore.Context = library.Context(spec, parent=shared_context())
    return context


def _count_chunks(item: Location, tree: Tree) -> Mapping[str, int]:
    """Key of a leaf → how many chunks of it are stored."""
    if tree.is_ocdbt:
        with explained("the database of arrays is damaged", where=item):
            database = load_tensorstore().KvStore.open(database_spec(item), context=shared_context()).result()
            keys = [key.decode() for key in database.list().result()]
    else:
        keys = item.keys()
    chunks = sorted(key for key in keys if not key.endswith((*_ARRAY_METADATA, _LOCK)))
    return {key: len(list(group)) for key, group in itertools.groupby(chunks, lambda key: key.partition("/")[0])}


def _mismatches(leaf: Leaf, array: "tensorstore.TensorStore", stored_chunks: Mapping[str, int] | None) -> list[str]:
    dtype = array.dtype.numpy_dtype
    if array.shape != leaf.shape:
        return [f"{leaf.shown} has the wrong shape, expected {_form(leaf.shape)}, found {_form(array.shape)}"]
    if dtype not in _DTYPES:
        return [f"{leaf.shown} has the wrong dtype, expected bfloat16 or float32, found {array.dtype.name}"]
    chunk_shape = _extents(array.chunk_layout.write_chunk)
    if any(chunk > size for chunk, size in zip(chunk_shape, leaf.shape, strict=True)):  # memory goes by chunks
        return [f"{leaf.shown} has chunks larger than itself, {_form(chunk_shape)} of {_form(leaf.shape)}"]
    chunk_count = math.prod([-(-size // chunk) for size, chunk in zip(leaf.shape, chunk_shape, strict=True)])
    if stored_chunks is not None and (missing := chunk_count - stored_chunks.get(leaf.key, 0)) > 0:
        return [f"{leaf.shown} has lost {missing} of its {chunk_count} chunks"]
    return []


def _extents(grid: "tensorstore.ChunkLayout.Grid") -> tuple[int, ...]:
    """Shape of the chunks of an opened array, which always is known."""
    return tuple(int(extent) for extent in grid.shape or () if extent)


def _unequal_dtypes(leaves: list[Leaf], arrays: Mapping[str, "tensorstore.TensorStore"]) -> list[str]:
    """Gate and up are one tensor, so they have one dtype."""
    first: dict[str, Leaf] = {}
    problems = []
    for leaf in leaves:
        other = first.setdefault(leaf.specs[0].name, leaf)
        if leaf.key in arrays and other.key in arrays and arrays[leaf.key].dtype != arrays[other.key].dtype:
            problems.append(
                f"{leaf.shown} has another dtype than {other.path[-1]}: "
                f"{arrays[leaf.key].dtype.name} and {arrays[other.key].dtype.name}"
            )
    return problems


def _form(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _gathered(item: Location, problems: list[str]) -> CheckpointError:
    if any(" wrong shape" in problem or " is no leaf " in problem or " is missing" in problem for problem in problems):
        fix = "Is this the config of these weights?"
    else:
        fix = "Copy or download the checkpoint again."
    if len(problems) == 1:
        return CheckpointError(problems[0], where=item, fix=fix)
    shown = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return CheckpointError(f"{len(problems)} problems: {'; '.join(shown)}", where=item, fix=fix)
