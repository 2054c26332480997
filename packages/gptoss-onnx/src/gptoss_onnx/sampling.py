"""Sampling in NumPy: the filters of `gptoss_weights.sampling`, and the draws of gptoss-model.

A draw takes the largest of logit + Gumbel noise among the tokens that the filters leave. The noise
of a token depends on the seed, the sequence's place in its batch, the number of tokens generated
before, and the token's id; on nothing else, and in both engines alike. So with equal seeds they
draw the same tokens, as long as their logits agree to the last digits that decide.
"""

import numpy as np
from gptoss_weights.sampling import Sampling

from gptoss_onnx.threefry import Key, fold_in, random_bits, seed_key

__all__ = ["MAX_SEED", "Sampler", "filter_logits"]

MAX_SEED = 2**32 - 1
MANTISSA_BITS = 23  # of f32
ONE_BITS = np.uint32(0x3F800000)  # 1.0 in f32


class Sampler:
    """Chooses the next token of each sequence of a batch.

    Args:
        sampling: None for the most likely token.
        seed: 0 … 2³² − 1.
        sequences: Number of prompts.
    """

    def __init__(self, sampling: Sampling | None, *, seed: int, sequences: int) -> None:
        self._sampling = None if sampling is None or sampling.is_greedy else sampling
        self._keys = [fold_in(seed_key(seed), place) for place in range(sequences)]

    def choose(self, logits: np.ndarray, step: int) -> np.ndarray:
        """The tokens int64 [B] that follow, from logits [B, V] after `step` tokens were generated."""
        if self._sampling is None:
            return logits.argmax(axis=-1)
        draws = [
            _draw(filter_logits(row, self._sampling), fold_in(key, step))
            for row, key in zip(logits, self._keys, strict=True)
        ]
        return np.array(draws, np.int64)


def filter_logits(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Logits [V] of the distribution to draw from, f32, −inf for tokens that are never drawn.

    Source: `gptoss_weights.sampling.sampling_probabilities` defines the same distribution in float64.
    """
    x = logits.astype(np.float32)
    with np.errstate(over="ignore"):  # far below the largest, which becomes 0, the quotient may be −inf
        x = (x - x.max()) / np.float32(sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < len(x):
        x = _keep_from(x, np.partition(x, -sampling.top_k)[-sampling.top_k])
    if sampling.top_p is not None and sampling.top_p < 1:
        falling = np.sort(x[np.isfinite(x)])[::-1]
        weights = np.exp(falling.astype(np.float64))
        weighs_less = np.cumsum(weights) - weights < sampling.top_p * weights.sum()
        x = _keep_from(x, falling[np.count_nonzero(weighs_less) - 1])
    if sampling.min_p:
        with np.errstate(divide="ignore"):  # below what f32 can hold it keeps all
            x = _keep_from(x, np.log(np.float32(sampling.min_p)))
    return x


def _keep_from(x: np.ndarray, least: np.floating) -> np.ndarray:
    return np.where(x >= least, x, np.float32(-np.inf))


def _draw(x: np.ndarray, key: Key) -> int:
    """One token by the probabilities softmax(x): the largest of x plus Gumbel noise."""
    kept = np.flatnonzero(np.isfinite(x))
    return int(kept[(x[kept] + _gumbel(key, kept)).argmax()])


def _gumbel(key: Key, places: np.ndarray) -> np.ndarray:
    """−log(−log u) in f32, with u uniform: 23 random bits below 1, and never 0."""
    bits = random_bits(key, places)
    uniform = ((bits >> np.uint32(32 - MANTISSA_BITS)) | ONE_BITS).view(np.float32) - np.float32(1)
    noise: np.ndarray = -np.log(-np.log(np.maximum(uniform, np.finfo(np.float32).tiny)))
    return noise
