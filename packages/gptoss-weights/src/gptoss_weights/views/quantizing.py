"""quantized: plain expert matrices as MXFP4, encoded slice by slice, with the error kept per tensor."""

import dataclasses
import math

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.errors import CheckpointError
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.mxfp4_encoding import ScaleRule, encode_mxfp4
from gptoss_weights.views.base import View

__all__ = ["QuantizationError", "QuantizedCheckpoint", "quantized"]

_COMPARED_ROWS = 256  # at a time: 3 MB of float32 at the published width


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationError:
    """What encoding changed in a tensor, or in those of its values that were encoded.

    Attributes:
        values: How many were encoded.
        squared_error: Sum of squared differences.
        squared_norm: Sum of the squares of what was encoded.
        max_abs: Largest difference.
    """

    values: int
    squared_error: float
    squared_norm: float
    max_abs: float

    @property
    def relative_l2(self) -> float:
        """Norm of the difference over the norm of the values; 0 where those are all zero."""
        return math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0

    def __add__(self, other: "QuantizationError") -> "QuantizationError":
        return QuantizationError(
            values=self.values + other.values,
            squared_error=self.squared_error + other.squared_error,
            squared_norm=self.squared_norm + other.squared_norm,
            max_abs=max(self.max_abs, other.max_abs),
        )

    @staticmethod
    def between(values: np.ndarray, packed: Mxfp4Tensor) -> "QuantizationError":
        """Of an expert, [out, in], and what it was packed into."""
        total = QuantizationError(values=0, squared_error=0.0, squared_norm=0.0, max_abs=0.0)
        for start in range(0, len(values), _COMPARED_ROWS):
            rows = slice(start, start + _COMPARED_ROWS)
            exact = values[rows].astype(np.float32).reshape(-1)
            difference = packed[rows].decode(np.float32).reshape(-1) - exact
            total += QuantizationError(
                values=exact.size,
                squared_error=float(np.vdot(difference, difference)),
                squared_norm=float(np.vdot(exact, exact)),
                max_abs=float(np.abs(difference).max()),
            )
        return total


def quantized(checkpoint: Checkpoint, *, scale: ScaleRule = "mse") -> "QuantizedCheckpoint":
    """The same checkpoint with every expert matrix packed as MXFP4; those that are packed already stay.

    Values that came out of MXFP4 go back into it unchanged, under either rule.

    Args:
        checkpoint: Any.
        scale: How the scale of a block is chosen: "max", the rule of the OCP standard, or "mse", the
            better of it and the next power of two.

    Raises:
        ValueError: no such rule.
        CheckpointError: on reading, if a value is not finite.
    """
    return QuantizedCheckpoint(checkpoint, scale)


class QuantizedCheckpoint(View):
    """A checkpoint that encodes what it reads; `errors` tells how well that went so far.

    Args:
        source: The checkpoint inside.
        scale: The rule of scales.
    """

    def __init__(self, source: Checkpoint, scale: ScaleRule) -> None:
        super().__init__(source, scale)
        encode_mxfp4(np.zeros(0, np.float32).reshape(0, 32), scale=scale)  # refuses an unknown rule now
        self._scale = scale
        self._errors: dict[tuple[str, int], QuantizationError] = {}

    @property
    def errors(self) -> dict[str, QuantizationError]:
        """Name of each tensor of which experts were encoded whole → the error over those experts."""
        total: dict[str, QuantizationError] = {}
        for (name, _), error in sorted(self._errors.items()):
            total[name] = total[name] + error if name in total else error
        return total

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        """One tensor or a part of it; of an expert matrix that is not packed, encoded now."""
        spec = self.specs[name]
        if not spec.is_expert_matrix or self.source.array_dtype(name) is None:
            return self.source.read(name, index)
        inputs = len(spec.shape) - 1
        values = self.source.read_array(name, index[:inputs])
        try:
            packed = encode_mxfp4(values, scale=self._scale)
        except ValueError as error:
            raise CheckpointError(
                str(error), where=name, fix="`gptoss-weights verify` says where in the source it stands."
            ) from None
        if len(index) <= 1:
            self._note(name, range(spec.shape[0])[index[0] if index else slice(None)], values, packed)
        if len(index) <= inputs:
            return packed
        return packed[(*(slice(None) for _ in packed.shape[1:]), *index[inputs:])]

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        """Where the tensor's bytes stand on disk, if nothing needs to be encoded."""
        stored = self.source.stored(name)
        return None if self.specs[name].is_expert_matrix and isinstance(stored, StoredArray) else stored

    def array_dtype(self, name: str) -> np.dtype | None:
        """The dtype of an array; None for every expert matrix."""
        return None if self.specs[name].is_expert_matrix else self.source.array_dtype(name)

    def _note(self, name: str, experts: range | int, values: np.ndarray, packed: Mxfp4Tensor) -> None:
        if isinstance(experts, int):
            self._errors[name, experts] = QuantizationError.between(values, packed)
            return
        for place, expert in enumerate(experts):
            self._errors[name, expert] = QuantizationError.between(values[place], packed[place])
