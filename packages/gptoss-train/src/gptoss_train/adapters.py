"""Adapters: the factors of LoRA by the tensor of the schema that they update, and a checkpoint with them merged in.

A merged checkpoint is lazy: a matrix is decoded, updated and handed out slice by slice, so that merging
into a checkpoint of any size takes the memory of one of its pieces.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from gptoss_weights import Checkpoint, Index, Mxfp4Tensor

from gptoss_train.parameters import canonical_name, is_stacked

__all__ = ["Adapter", "Update", "adapter_of", "merged"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """scale · b · a of one tensor: a [r, in] and b [out, r], or with a leading E; on the host, in f32."""

    a: np.ndarray
    b: np.ndarray
    scale: float

    def of(self, index: Index) -> np.ndarray:
        """What it adds to the part of the tensor that a basic index selects."""
        whole = [slice(None)] * (self.a.ndim - len(index))
        *leading, rows, columns = list[int | slice](index) + whole
        a, b = self.a[(*leading, slice(None), columns)], self.b[(*leading, rows, slice(None))]
        product: np.ndarray
        if isinstance(columns, int):
            product = np.einsum("...or,...r->...o" if not isinstance(rows, int) else "...r,...r->...", b, a)
        elif isinstance(rows, int):
            product = np.einsum("...r,...ri->...i", b, a)
        else:
            product = b @ a
        return product * np.float32(self.scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """What LoRA has made.

    Attributes:
        updates: Canonical name → update of the matrix.
        replaced: Canonical name → new value of what was trained in full: routers and sinks.
        rank: Of the updates.
        alpha: scale · rank.
    """

    updates: Mapping[str, Update]
    replaced: Mapping[str, np.ndarray]
    rank: int
    alpha: float


def adapter_of(parameters: Mapping[str, np.ndarray], *, rank: int, alpha: float) -> Adapter:
    """The adapter in the trained parameters of a run.

    Args:
        parameters: By name, with factors `….a` and `….b`.
        rank: Of the updates.
        alpha: As in the config.
    """
    factors: dict[str, dict[str, np.ndarray]] = {}
    replaced = {}
    for name, value in parameters.items():
        host = np.asarray(value, np.float32)
        rows = enumerate(host) if is_stacked(name) else [(0, host)]
        for row, entry in rows:
            own = canonical_name(name, row)
            if name.endswith((".a", ".b")):
                factors.setdefault(_updated(own), {})[own[-1]] = entry
            else:
                replaced[own] = entry
    updates = {name: Update(a=pair["a"], b=pair["b"], scale=alpha / rank) for name, pair in factors.items()}
    return Adapter(updates=updates, replaced=replaced, rank=rank, alpha=alpha)


def merged(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The checkpoint with the updates in it: updated matrices as f32 arrays, all else as it was.

    Raises:
        KeyError: the adapter updates a tensor that the checkpoint does not have.
    """
    for name in (*adapter.updates, *adapter.replaced):
        if name not in base.specs:
            raise KeyError(name)
    return _MergedCheckpoint(base, adapter)


class _MergedCheckpoint(Checkpoint):
    format = "merged"

    def __init__(self, base: Checkpoint, adapter: Adapter) -> None:
        self.config, self.side_files = base.config, base.side_files
        self._base, self._adapter = base, adapter

    def array_dtype(self, name: str) -> np.dtype | None:
        is_changed = name in self._adapter.updates or name in self._adapter.replaced
        return np.dtype(np.float32) if is_changed else self._base.array_dtype(name)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name in self._adapter.replaced:
            return self._adapter.replaced[name][index]
        if name not in self._adapter.updates:
            return self._base.read(name, index)
        # Along the last axis a packed tensor can be cut at blocks only: it is read whole there, and cut then.
        axes = len(self.specs[name].shape)
        part = self._base.read(name, index[: axes - 1])
        values = part.decode(np.float32) if isinstance(part, Mxfp4Tensor) else np.asarray(part, np.float32)
        if len(index) == axes:
            values = values[(..., index[-1])]
        updated: np.ndarray = values + self._adapter.updates[name].of(index)
        return updated


def _updated(name: str) -> str:
    """What a factor updates: `….q_proj.lora.a` → `….q_proj.weight`, `….gate_up_lora.a` → `….gate_up_proj`."""
    parts = name.split(".")[:-1]
    if parts[-1] == "lora":
        return ".".join([*parts[:-1], "weight"])
    return ".".join([*parts[:-1], parts[-1].replace("_lora", "_proj")])
