"""random_checkpoint: weights of any geometry, made on demand, with activations of ordinary size.

Every tensor depends only on the seed, its name and the row, so nothing is kept: a slice makes its
own rows, and a full-size checkpoint costs no memory until it is read. Values come from random bytes
through a table of normal quantiles, which is fast and the same on every machine.

Sizes are chosen so that a forward pass of any geometry stays of order one: matrices have a standard
deviation of 1/√(inputs), so that queries, keys, router logits and expert outputs have a spread of
about one; logits spread about two; sinks are standard normal; norms lie near one; biases are small.
"""

import functools
import hashlib
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index
from gptoss_weights.config import GptOssConfig
from gptoss_weights.fingerprints import fingerprint_of
from gptoss_weights.indexing import first_axis
from gptoss_weights.mxfp4 import FP4_VALUES, LARGEST_EXACT_SCALE, MXFP4_BLOCK_SIZE, SCALE_BIAS, Mxfp4Tensor
from gptoss_weights.schema import TensorSpec

__all__ = ["random_checkpoint"]

LOGIT_SPREAD = 2.0
NORM_SPREAD = 0.1
BIAS_SPREAD = 0.1
_QUANTILES = 1 << 16  # one for each value of two random bytes
_CHUNK_VALUES = 1 << 20  # values that one stream of random bytes makes; fixed, since it defines the values


def random_checkpoint(config: GptOssConfig, *, seed: int) -> Checkpoint:
    """A lazy checkpoint of random weights, experts packed as MXFP4, the same for the same seed.

    Args:
        config: Any geometry, full size included.
        seed: A whole number ≥ 0.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"the seed must not be negative, but is {seed}")
    return _RandomCheckpoint(config, seed)


class _RandomCheckpoint(Checkpoint):
    format = "random"
    side_files: Mapping[str, Path] = MappingProxyType({})

    def __init__(self, config: GptOssConfig, seed: int) -> None:
        self.config = config
        self._seed = seed

    def fingerprint(self) -> str:
        return fingerprint_of(self.format, self.config, self._seed)

    def array_dtype(self, name: str) -> np.dtype | None:
        return None if self.specs[name].is_expert_matrix else np.dtype(ml_dtypes.bfloat16)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        spec = self.specs[name]
        start, stop, rest = first_axis(index, spec.shape[0])
        if spec.is_expert_matrix:
            packed = self._packed(spec, start, stop)
            return packed[rest] if rest else packed
        values = self._normal(spec, start, stop)
        values.setflags(write=False)
        return values[(*rest, ...)]

    def _normal(self, spec: TensorSpec, start: int, stop: int) -> np.ndarray:
        """Rows start … stop − 1 of a bfloat16 array."""
        mean, spread = _moments(spec)
        table = (mean + spread * _normal_quantiles()).astype(ml_dtypes.bfloat16)
        width = math.prod(spec.shape[1:])
        first, last = start * width, stop * width
        values = np.empty(last - first, ml_dtypes.bfloat16)
        for chunk in range(first // _CHUNK_VALUES, math.ceil(last / _CHUNK_VALUES)):
            begin, end = chunk * _CHUNK_VALUES, min((chunk + 1) * _CHUNK_VALUES, spec.size)
            dice = np.frombuffer(self._generator(spec.name, chunk).bytes(2 * (end - begin)), "<u2")
            dice = dice[max(first - begin, 0) : last - begin]
            place = max(begin - first, 0)
            np.take(table, dice, out=values[place : place + len(dice)], mode="clip")
        return values.reshape(stop - start, *spec.shape[1:])

    def _packed(self, spec: TensorSpec, start: int, stop: int) -> Mxfp4Tensor:
        """Experts start … stop − 1 of a packed matrix: uniform codes, scales of two neighbouring powers."""
        _, rows, width = spec.shape
        groups = width // MXFP4_BLOCK_SIZE
        blocks = np.empty((stop - start, rows, groups, MXFP4_BLOCK_SIZE // 2), np.uint8)
        scales = np.empty((stop - start, rows, groups), np.uint8)
        table = _scale_table(1 / math.sqrt(width))
        for row, expert in enumerate(range(start, stop)):
            generator = self._generator(spec.name, expert)
            blocks[row] = np.frombuffer(generator.bytes(blocks[row].size), np.uint8).reshape(blocks[row].shape)
            dice = np.frombuffer(generator.bytes(scales[row].size), np.uint8).reshape(scales[row].shape)
            np.take(table, dice, out=scales[row], mode="clip")
        blocks.setflags(write=False)
        scales.setflags(write=False)
        return Mxfp4Tensor(blocks, scales)

    def _generator(self, name: str, part: int) -> "np.random.Generator":
        digest = hashlib.sha256(f"{self._seed} {name} {part}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _moments(spec: TensorSpec) -> tuple[float, float]:
    """Mean and standard deviation of a parameter."""
    if spec.name.endswith("norm.weight"):
        return 1.0, NORM_SPREAD
    if spec.name.endswith("bias"):
        return 0.0, BIAS_SPREAD
    if spec.name.endswith(("embed_tokens.weight", "sinks")):
        return 0.0, 1.0
    spread = 1 / math.sqrt(spec.shape[-1])
    return 0.0, LOGIT_SPREAD * spread if spec.name == "lm_head.weight" else spread


@functools.cache
def _normal_quantiles() -> np.ndarray:
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / _QUANTILES) for i in range(_QUANTILES)])


def _scale_table(spread: float) -> np.ndarray:
    """Random byte → scale byte, two neighbouring powers of two mixed so that values have that spread."""
    variance = spread**2 / statistics.fmean(code**2 for code in FP4_VALUES)
    exponent = math.floor(math.log2(variance) / 2)  # of the smaller power
    share_of_larger = (variance / 4**exponent - 1) / 3
    larger = np.arange(256) < round(256 * share_of_larger)
    scales: np.ndarray = np.clip(SCALE_BIAS + exponent + larger, 0, LARGEST_EXACT_SCALE).astype(np.uint8)
    return scales
