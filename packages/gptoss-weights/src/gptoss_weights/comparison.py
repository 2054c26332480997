"""compare_checkpoints: two checkpoints of any formats, tensor by tensor, in pieces of some rows.

Where both hold the same bytes, that settles it. Otherwise values are compared in float32, which holds
every value of bfloat16, float16 and MXFP4 exactly: encoding as MXFP4 is not unique, so packed
tensors of different bytes may be equal, and a packed tensor equals its decoded self.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config_dialects.numbers import NUMBERS
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["CheckpointComparison", "TensorDifference", "compare_checkpoints"]

_COMPARED_BYTES = 16 << 20  # of either tensor at a time; in float32 and float64 it takes some times that


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """How a tensor differs between two checkpoints.

    Attributes:
        name: Canonical name.
        dtypes: Of both, "MXFP4" where packed; None where there is no such tensor.
        problem: Why values cannot be compared; None if they were.
        values: How many values the tensor has.
        differing: How many of them differ beyond the tolerance.
        max_abs: Largest absolute difference; infinite if one of two values is not finite.
        relative_l2: Norm of the difference over the norm of the second tensor.
        first_index: Where the first differing value is.
        first_values: That value in both.
    """

    name: str
    dtypes: tuple[str | None, str | None]
    problem: str | None = None
    values: int = 0
    differing: int = 0
    max_abs: float = 0.0
    relative_l2: float = 0.0
    first_index: tuple[int, ...] = ()
    first_values: tuple[float, float] = (0.0, 0.0)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document; numbers that are not finite as text."""
        document = dataclasses.asdict(self)
        for key in ("max_abs", "relative_l2"):
            document[key] = _json_number(document[key])
        document["first_values"] = [_json_number(value) for value in self.first_values]
        return document


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointComparison:
    """What two checkpoints differ in.

    Attributes:
        config: Number of the config → its value in both, where those differ.
        differences: Tensors that differ, in the order of the forward pass.
        tensors: How many tensors there are in either.
        encoded_otherwise: Packed tensors whose bytes differ and whose values do not.
    """

    config: dict[str, tuple[float, float]]
    differences: Sequence[TensorDifference]
    tensors: int
    encoded_otherwise: Sequence[str]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.config and not self.differences

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {
            "equal": self.is_equal,
            "config": {name: list(values) for name, values in self.config.items()},
            "tensors": self.tensors,
            "encoded_otherwise": list(self.encoded_otherwise),
            "differences": [difference.to_json() for difference in self.differences],
        }


def compare_checkpoints(
    a: Checkpoint,
    b: Checkpoint,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    on_tensor: Callable[[str], None] | None = None,
) -> CheckpointComparison:
    """Compares config numbers and all values; a value of `a` may differ from `b`'s by atol + rtol · |b|.

    Args:
        a: One checkpoint.
        b: The other, the one that differences are relative to.
        rtol: Relative tolerance; rounding to bfloat16 stays within 2⁻⁸, to float16 within 2⁻¹¹.
        atol: Absolute tolerance.
        on_tensor: Called with the name of each tensor once it has been compared.

    Raises:
        ValueError: a tolerance is negative or no number.
        CheckpointError: a tensor cannot be read.
    """
    if not (rtol >= 0 and atol >= 0):
        raise ValueError(f"tolerances must be at least 0, not rtol {rtol} and atol {atol}")
    differences = []
    encoded_otherwise = []
    names = dict.fromkeys([*a, *b])
    for name in names:
        tally = _compare(a, b, name, rtol, atol)
        if isinstance(tally, TensorDifference):
            differences.append(tally)
        elif tally.differing:
            differences.append(tally.difference(name, (_dtype(a, name), _dtype(b, name))))
        elif tally.is_encoded_otherwise:
            encoded_otherwise.append(name)
        if on_tensor is not None:
            on_tensor(name)
    return CheckpointComparison(
        config={
            name: (getattr(a.config, name), getattr(b.config, name))
            for name in NUMBERS
            if getattr(a.config, name) != getattr(b.config, name)
        },
        differences=differences,
        tensors=len(names),
        encoded_otherwise=encoded_otherwise,
    )


def _compare(a: Checkpoint, b: Checkpoint, name: str, rtol: float, atol: float) -> "TensorDifference | _Tally":
    dtypes = (_dtype(a, name), _dtype(b, name))
    if None in dtypes:
        return TensorDifference(name=name, dtypes=dtypes, problem=f"only in {'B' if dtypes[0] is None else 'A'}")
    shapes = a.specs[name].shape, b.specs[name].shape
    if shapes[0] != shapes[1]:
        return TensorDifference(name=name, dtypes=dtypes, problem=f"shapes {list(shapes[0])} and {list(shapes[1])}")
    tally = _Tally(rtol, atol)
    for rows in _shared_slices(a, b, name):
        tally.add(rows.start, a.read(name, (rows,)), b.read(name, (rows,)))
    return tally


def _shared_slices(a: Checkpoint, b: Checkpoint, name: str) -> Iterator[slice]:
    """Rows that fit into the limit both as stored and as float32."""
    limit = _COMPARED_BYTES
    slices = [list(checkpoint.row_slices(name, max_bytes=limit)) for checkpoint in (a, b)]
    yield from max(slices, key=len)


class _Tally:
    """Counts how two tensors differ, piece by piece."""

    def __init__(self, rtol: float, atol: float) -> None:
        self.differing = 0
        self.is_encoded_otherwise = False
        self._rtol, self._atol = rtol, atol
        self._values = 0
        self._max_abs = self._squared_difference = self._squared_norm = 0.0
        self._first_index: tuple[int, ...] = ()
        self._first_values = (0.0, 0.0)

    def add(self, start: int, a: np.ndarray | Mxfp4Tensor, b: np.ndarray | Mxfp4Tensor) -> None:
        """Compares a piece whose first row is `start`."""
        self._values += math.prod(a.shape)
        is_same = _have_same_bytes(a, b)
        exact_b = _as_float32(b)
        self._squared_norm += _squared_norm(exact_b)
        if is_same:
            return
        self.is_encoded_otherwise |= isinstance(a, Mxfp4Tensor) and isinstance(b, Mxfp4Tensor)
        exact_a = _as_float32(a)
        differs = (exact_a != exact_b) & ~(np.isnan(exact_a) & np.isnan(exact_b))
        if not differs.any():
            return
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(exact_a.astype(np.float64) - exact_b)
            distance[differs & ~np.isfinite(distance)] = np.inf
            distance[~differs] = 0.0
            if self._rtol or self._atol:
                differs &= ~(distance <= self._atol + self._rtol * np.abs(exact_b.astype(np.float64)))
                differs |= np.isinf(distance)
        self._max_abs = max(self._max_abs, float(distance.max()))
        self._squared_difference += float(np.vdot(distance, distance))
        self.differing += int(np.count_nonzero(differs))
        if not self._first_index and differs.any():
            row, *others = (int(i) for i in np.unravel_index(int(differs.argmax()), differs.shape))
            self._first_index = (start + row, *others)
            self._first_values = float(exact_a[row, *others]), float(exact_b[row, *others])

    def difference(self, name: str, dtypes: tuple[str | None, str | None]) -> TensorDifference:
        """What was counted."""
        norm = math.sqrt(self._squared_norm)
        difference = math.sqrt(self._squared_difference)
        return TensorDifference(
            name=name,
            dtypes=dtypes,
            values=self._values,
            differing=self.differing,
            max_abs=self._max_abs,
            relative_l2=difference / norm if norm else math.inf,
            first_index=self._first_index,
            first_values=self._first_values,
        )


def _dtype(checkpoint: Checkpoint, name: str) -> str | None:
    if name not in checkpoint.specs:
        return None
    dtype = checkpoint.array_dtype(name)
    return "MXFP4" if dtype is None else dtype.name


def _have_same_bytes(a: np.ndarray | Mxfp4Tensor, b: np.ndarray | Mxfp4Tensor) -> bool:
    if isinstance(a, Mxfp4Tensor) and isinstance(b, Mxfp4Tensor):
        return np.array_equal(a.blocks, b.blocks) and np.array_equal(a.scales, b.scales)
    if isinstance(a, Mxfp4Tensor) or isinstance(b, Mxfp4Tensor) or a.dtype != b.dtype:
        return False
    bits = np.dtype(f"u{a.dtype.itemsize}")
    return np.array_equal(a.view(bits), b.view(bits))


def _as_float32(tensor: np.ndarray | Mxfp4Tensor) -> np.ndarray:
    if isinstance(tensor, Mxfp4Tensor):
        return tensor.decode(np.float32)
    return tensor.astype(np.float32, copy=False)


def _squared_norm(values: np.ndarray) -> float:
    flat = values.reshape(-1)
    return float(np.vdot(flat, flat)) if np.isfinite(flat).all() else math.inf


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
