"""cast: the plain arrays of a checkpoint in another floating dtype; packed experts stay packed."""

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.errors import CheckpointError
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.views.base import View

__all__ = ["FLOAT_DTYPES", "cast", "cast_array", "float_dtype"]

FLOAT_DTYPES = {
    dtype.name: dtype for dtype in (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.float32))
}


def cast(checkpoint: Checkpoint, dtype: DTypeLike) -> Checkpoint:
    """The same checkpoint with every plain array in one dtype, rounded to nearest where that is narrower.

    Args:
        checkpoint: Any; packed experts stay packed.
        dtype: bfloat16, float16 or float32.

    Raises:
        ValueError: no such dtype.
        CheckpointError: on reading, if a finite value overflows to infinity.
    """
    return _Cast(checkpoint, float_dtype(dtype))


class _Cast(View):
    def __init__(self, source: Checkpoint, dtype: np.dtype) -> None:
        super().__init__(source, dtype.name)
        self._dtype = dtype

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        tensor = self.source.read(name, index)
        return tensor if isinstance(tensor, Mxfp4Tensor) else cast_array(tensor, self._dtype, name=name)

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        stored = self.source.stored(name)
        return None if isinstance(stored, StoredArray) and stored.dtype != self._dtype else stored

    def array_dtype(self, name: str) -> np.dtype | None:
        return None if self.source.array_dtype(name) is None else self._dtype


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """A dtype by any of its names, such as "bfloat16".

    Raises:
        ValueError: it is none of those that checkpoints are written in.
    """
    if isinstance(dtype, str) and dtype in FLOAT_DTYPES:
        return FLOAT_DTYPES[dtype]
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in FLOAT_DTYPES.values():
        raise ValueError(f"checkpoints are written in {', '.join(FLOAT_DTYPES)}, not {dtype}")
    return found


def cast_array(array: np.ndarray, dtype: np.dtype, *, name: str) -> np.ndarray:
    """The array in that dtype, read-only; `name` is said in the error.

    Raises:
        CheckpointError: a finite value would become infinite.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    lost = np.isinf(result) & np.isfinite(array)
    if lost.any():
        raise CheckpointError(
            f"a value does not fit into {dtype.name}",
            where=name,
            expected=f"magnitudes up to {float(ml_dtypes.finfo(dtype).max):.6g}",
            found=f"{float(array[lost][0]):.6g}",
            fix="Choose a dtype of wider range.",
        )
    result.setflags(write=False)
    return result
