"""Weights to begin with: a lazy checkpoint of small normal numbers, the same on every mesh.

Matrices and sinks start normal with a spread of 0.02, as transformers starts them, those that write to
the residual stream narrower by 1/√(2L), as GPT-2 does; biases start at zero, norms at one. A slice
makes its own numbers, so that every device of a mesh, and every process, makes only what it holds.

Source: transformers `GptOssPreTrainedModel._init_weights`; Radford et al., GPT-2, section 2.3.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from gptoss_weights import Checkpoint, GptOssConfig, Index, Mxfp4Tensor

__all__ = ["initial_checkpoint"]

SPREAD = 0.02
CHUNK_VALUES = 1 << 20  # that one stream of random numbers makes; fixed, since it defines the values


def initial_checkpoint(
    config: GptOssConfig, *, seed: int, side_files: Mapping[str, Path] = MappingProxyType({})
) -> Checkpoint:
    """A checkpoint of new weights in float32, to be trained.

    Args:
        config: Any geometry.
        seed: What they follow from.
        side_files: Tokenizer and other files to hand on.
    """
    return _InitialCheckpoint(config, seed, side_files)


class _InitialCheckpoint(Checkpoint):
    format = "initial"

    def __init__(self, config: GptOssConfig, seed: int, side_files: Mapping[str, Path]) -> None:
        self.config, self.side_files, self._seed = config, side_files, seed

    def array_dtype(self, name: str) -> np.dtype:
        if name not in self.specs:
            raise KeyError(name)
        return np.dtype(np.float32)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        spec = self.specs[name]
        first = index[0] if index else slice(None)
        rows = range(spec.shape[0])[first]
        start, stop = (rows, rows + 1) if isinstance(rows, int) else (rows.start, rows.stop)
        if not isinstance(rows, int) and rows.step != 1:
            raise ValueError(f"{name} is read by rows that follow one another, not by {first}")
        values = self._rows(name, start, stop)
        values.setflags(write=False)
        return values[(0 if isinstance(rows, int) else slice(None), *index[1:])]

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        spec = self.specs[name]
        shape = (stop - start, *spec.shape[1:])
        if name.endswith("norm.weight"):
            return np.ones(shape, np.float32)
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        is_output = name.endswith(("o_proj.weight", "down_proj"))
        spread = SPREAD / math.sqrt(2 * self.config.num_hidden_layers) if is_output else SPREAD
        width = math.prod(spec.shape[1:])
        first, last = start * width, stop * width
        values = np.empty(last - first, np.float32)
        for chunk in range(first // CHUNK_VALUES, math.ceil(last / CHUNK_VALUES)):
            begin = chunk * CHUNK_VALUES
            made = self._generator(name, chunk).standard_normal(min(CHUNK_VALUES, spec.size - begin), np.float32)
            made = made[max(first - begin, 0) : last - begin]
            values[max(begin - first, 0) :][: len(made)] = made
        return (values * np.float32(spread)).reshape(shape)

    def _generator(self, name: str, chunk: int) -> "np.random.Generator":
        digest = hashlib.sha256(f"{self._seed} {name} {chunk}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
