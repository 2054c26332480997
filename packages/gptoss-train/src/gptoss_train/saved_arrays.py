"""Parameters of a saved run, read a part at a time: no more is in memory than what is asked for.

Orbax keeps a tree as one TensorStore array a leaf, in chunks. Reading a layer of a stack touches the chunks that
it lies in, and nothing is kept.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gptoss_weights import Index
from gptoss_weights.formats.orbax import Location, explained, open_array, read_tree

__all__ = ["SavedArray", "open_saved_arrays"]


class SavedArray:
    """An array on disk, or behind a URL.

    Args:
        store: TensorStore's.
        where: What errors call it.
        fix: What they advise.
    """

    def __init__(self, store: Any, where: str, fix: str | None = None) -> None:
        self._store, self._where, self._fix = store, where, fix
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
        with explained("a parameter cannot be read", where=self._where, fix=self._fix):
            values: np.ndarray = self._store[domain].read().result()
        return values


def open_saved_arrays(folder: str, names: Iterable[str], *, fix: str | None = None) -> dict[str, SavedArray]:
    """The arrays of a tree that Orbax has saved, by name; nothing but their shapes is read.

    Args:
        folder: The item's, or its URL.
        names: Of the leaves.
        fix: What errors advise.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    item = Location.at(folder)
    tree = read_tree(item)
    pending = {name: open_array(item, tree, name) for name in names}
    found = {}
    for name, opening in pending.items():
        where = f"{folder}, {name}"
        with explained("a parameter cannot be opened", where=where, fix=fix):
            found[name] = SavedArray(opening.result(), where, fix)
    return found
