"""A live model as a checkpoint: whatever takes a checkpoint takes a model that runs or trains, too.

    save_checkpoint(model_checkpoint(model), "tuned", format="hf", dtype="bfloat16")

Nothing is copied when the view is made. On a CPU reading gives views of the device's own memory;
elsewhere the part that is read is cut out on the device, and only that comes to the host.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
from gptoss_weights import Checkpoint, Index, Mxfp4Tensor

from gptoss_model.model import GptOss
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.parameters import canonical_names

__all__ = ["model_checkpoint"]


def model_checkpoint(model: GptOss, *, side_files: Mapping[str, Path] = MappingProxyType({})) -> Checkpoint:
    """The parameters that a model has now, by canonical name; later updates of the model do not change them.

    Tensors have the dtypes of the model: packed experts stay packed, the scales of the norms are
    f32. Saving asks for one dtype: that of the parameters loses nothing that was loaded.

    Args:
        model: Loaded or trained, scanned or not, its experts packed or decoded.
        side_files: Tokenizer and other files to hand on: file name → path, as the `side_files` of
            the checkpoint that the model came from.

    Raises:
        ValueError: the model is abstract, or another process holds a part of it.
    """
    return _ModelCheckpoint(model, side_files)


class _ModelCheckpoint(Checkpoint):
    format = "model"

    def __init__(self, model: GptOss, side_files: Mapping[str, Path]) -> None:
        self.config, self.side_files = model.config, side_files
        self._places = {name: (view.variable.get_value(), view.row) for name, view in canonical_names(model).items()}
        for name, (value, _) in self._places.items():
            for leaf in jax.tree.leaves(value):
                if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable:
                    why = "is held by other processes too" if isinstance(leaf, jax.Array) else "has no values"
                    raise ValueError(f"{name} {why}; a checkpoint is made of a model whose values are all here")

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        value, row = self._places[name]
        if isinstance(value, Mxfp4Array):
            whole = () if row is None else (row,)
            # The index is one of values: `Mxfp4Tensor` knows what it means for blocks and scales.
            return Mxfp4Tensor(_on_host(value.blocks, whole), _on_host(value.scales, whole))[index]
        return _on_host(value, index if row is None else (row, *index))

    def array_dtype(self, name: str) -> np.dtype | None:
        value, _ = self._places[name]
        return None if isinstance(value, Mxfp4Array) else np.dtype(value.dtype)


def _on_host(array: jax.Array, index: Index) -> np.ndarray:
    if array.sharding.device_set == {jax.local_devices(backend="cpu")[0]}:
        return np.asarray(array)[index]
    return np.asarray(array[index])
