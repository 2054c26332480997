"""dequantized: packed experts as plain arrays, decoded slice by slice as they are read."""

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.errors import CheckpointError
from gptoss_weights.mxfp4 import LARGEST_EXACT_SCALE, Mxfp4Tensor
from gptoss_weights.views.base import View
from gptoss_weights.views.casting import cast_array, float_dtype

__all__ = ["dequantized"]


def dequantized(checkpoint: Checkpoint, dtype: DTypeLike = ml_dtypes.bfloat16) -> Checkpoint:
    """The same checkpoint with every packed tensor decoded; other arrays, and their dtypes, stay.

    Args:
        checkpoint: Any.
        dtype: bfloat16 or float32, which hold every value exactly, or float16.

    Raises:
        ValueError: no such dtype.
        CheckpointError: on reading, if a value overflows float16, or a scale every dtype.
    """
    return _Dequantized(checkpoint, float_dtype(dtype))


class _Dequantized(View):
    def __init__(self, source: Checkpoint, dtype: np.dtype) -> None:
        super().__init__(source, dtype.name)
        self._dtype = dtype

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        axes = len(self.specs[name].shape)
        tensor = self.source.read(name, index[: axes - 1])  # whole blocks: the last axis is cut after decoding
        if not isinstance(tensor, Mxfp4Tensor):
            return self.source.read_array(name, index)
        is_float16 = self._dtype == np.float16
        values = tensor.decode(np.float32 if is_float16 else self._dtype)
        if (tensor.scales > LARGEST_EXACT_SCALE).any() and not np.isfinite(values).all():
            raise CheckpointError(
                "decoded values are not finite",
                where=name,
                expected=f"MXFP4 scales up to {LARGEST_EXACT_SCALE}",
                found=int(tensor.scales.max()),
                fix="Fetch the weights again; `gptoss-weights verify` says which scales they are.",
            )
        values = cast_array(values, self._dtype, name=name)
        values = values[..., index[axes - 1]] if len(index) >= axes else values
        values.setflags(write=False)
        return values

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        stored = self.source.stored(name)
        return None if isinstance(stored, StoredMxfp4) else stored

    def array_dtype(self, name: str) -> np.dtype | None:
        found = self.source.array_dtype(name)
        return self._dtype if found is None else found
