"""Parameters of a saved run, read a part at a time: no more is in memory than what is asked for.

Orbax keeps a tree as one TensorStore array a leaf, in chunks. Reading a layer of a stack touches the chunks that
it lies in, and nothing is kept.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gptoss_weights import CheckpointError, Index

__all__ = ["SavedArray", "open_saved_arrays"]


class SavedArray:
    """An array on disk, or behind a URL.

    Args:
        store: TensorStore's.
        where: What errors call it.
    """

    def __init__(self, store: Any, where: str) -> None:
        self._store, self._where = store, where
        self.shape: tuple[int, ...] = tuple(store.shape)
        self.dtype: np.dtype = store.dtype.numpy_dtype
        self.chunk_shape: tuple[int, ...] = tuple(store.chunk_layout.read_chunk.shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        """A part, by a basic index.

        Raises:
            CheckpointError: it cannot be read.
        """
        # TensorStore does not count from the end: an index is given as the places that it comes to.
        places = [range(extent)[one] for one, extent in zip(index, self.shape, strict=False)]
        if any(isinstance(one, range) and one.step < 0 for one in places):
            raise ValueError(f"{self._where} is read forwards, not by {index}")
        domain = tuple(slice(one.start, one.stop, one.step) if isinstance(one, range) else one for one in places)
        try:
            values: np.ndarray = self._store[domain].read().result()
        except (ValueError, OSError) as error:
            raise CheckpointError(f"a parameter cannot be read ({_first_line(error)})", where=self._where) from error
        return values


def open_saved_arrays(folder: str, names: Iterable[str]) -> dict[str, SavedArray]:
    """The arrays of a tree that Orbax has saved, by name; nothing but their shapes is read.

    Args:
        folder: The item's, absolute, or its URL.
        names: Of the leaves.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    import tensorstore

    base = folder if "://" in folder else f"file://{folder}"
    # No cache: a part is read once.
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
    driver = "zarr3" if _is_zarr3(folder) else "zarr"
    found = {}
    for name in names:
        kvstore = {"driver": "ocdbt", "base": f"{base}/", "path": f"{name}/"}
        where = f"{folder}, {name}"
        try:
            store = tensorstore.open({"driver": driver, "kvstore": kvstore}, read=True, context=context).result()
        except (ValueError, OSError) as error:
            raise CheckpointError(f"a parameter cannot be opened ({_first_line(error)})", where=where) from error
        found[name] = SavedArray(store, where)
    return found


def _is_zarr3(folder: str) -> bool:
    """What Orbax says of the tree; the older form where it says nothing."""
    metadata = Path(folder) / "_METADATA"
    if "://" in folder:
        import tensorstore

        raw = tensorstore.KvStore.open(f"{folder}/").result().read("_METADATA").result().value
    else:
        raw = metadata.read_bytes() if metadata.exists() else b"{}"
    return bool(json.loads(raw or b"{}").get("use_zarr3", False))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
