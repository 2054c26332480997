"""KVCache: what past tokens leave behind, in ONNX Runtime's own memory; and what any cache says of itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.errors import RequestError

__all__ = ["Cache", "KVCache", "cache_names", "empty_cache", "layer_of", "require_kind"]


class Cache(Protocol):
    """What a model keeps of past tokens. Each kind of graph has its own; `init_cache` gives the right one."""

    @property
    def batch(self) -> int:
        """Number of sequences."""

    @property
    def lengths(self) -> np.ndarray:
        """Real tokens of each sequence, int64 [B]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KVCache:
    """A value: each step returns a new one and leaves the old as it was.

    Attributes:
        values: `past_key_values.{i}.key` and `.value` → f32 [B, K, rows, H]. Full layers have a row
            for every column of the mask, sliding layers for the last W − 1 real tokens.
        mask: int64 [B, total], 1 where a token is real.
    """

    values: Mapping[str, ort.OrtValue]
    mask: np.ndarray

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return int(self.mask.shape[0])

    @property
    def lengths(self) -> np.ndarray:
        """Real tokens of each sequence, int64 [B]."""
        return self.mask.sum(axis=1)

    def check(self, config: GptOssConfig) -> None:
        """Holds every shape against a model.

        Raises:
            RequestError: it is not a cache of this model.
        """
        columns = int(self.mask.shape[1])
        for name in cache_names(config):
            if name not in self.values:
                raise RequestError(f"the cache has no {name}", fix="Start with init_cache of this model.")
            rows = min(columns, config.sliding_window - 1) if config.is_sliding(layer_of(name)) else columns
            expected = [self.batch, config.num_key_value_heads, rows, config.head_dim]
            if self.values[name].shape() != expected:
                raise RequestError(
                    "the cache does not fit the model and its mask",
                    where=name,
                    expected=expected,
                    found=self.values[name].shape(),
                    fix="Pass the cache that the last step returned.",
                )


def empty_cache(config: GptOssConfig, batch: int) -> KVCache:
    """A cache of nothing for `batch` sequences."""
    nothing = np.zeros((batch, config.num_key_value_heads, 0, config.head_dim), np.float32)
    return KVCache(
        values={name: ort.OrtValue.ortvalue_from_numpy(nothing) for name in cache_names(config)},
        mask=np.zeros((batch, 0), np.int64),
    )


def cache_names(config: GptOssConfig) -> Sequence[str]:
    """Names of the graph's cache inputs in their order."""
    return [f"past_key_values.{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]


def layer_of(name: str) -> int:
    """The layer that a cache input belongs to."""
    return int(name.split(".")[1])


def require_kind[Kind](cache: Cache, kind: type[Kind]) -> Kind:
    """The cache, if it is of the kind that a model works with.

    Raises:
        RequestError: it comes from a model with another.
    """
    if not isinstance(cache, kind):
        raise RequestError(
            "the cache belongs to a model of another export",
            expected=f"a {kind.__name__}",
            found=f"a {type(cache).__name__}",
            fix="Start with init_cache of this model.",
        )
    return cache
