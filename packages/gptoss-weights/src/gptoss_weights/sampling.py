"""How the next token is drawn: the one meaning of temperature, top-k, top-p and min-p for all engines.

The logits x of a step go through these, in this order, as the warpers of transformers do:

1. temperature: x / temperature;
2. top-k: tokens less likely than the k-th most likely go;
3. top-p: with what is left renormalised, a token goes if those more likely than it already weigh
   top_p or more, so what stays is the smallest set of the most likely that weighs at least top_p;
4. min-p: tokens less likely than min_p times the most likely go.

Tokens that are equally likely stay or go together, and the most likely always stays. (transformers
does the same in top-k and min-p; its top-p breaks ties by the order of a sort.) One of what is
left is drawn by its probability. Temperature 0 is the limit: the most likely token, of equals the
one with the smallest id.
"""

import dataclasses
import math

import numpy as np

__all__ = ["Sampling", "sampling_probabilities"]

SMALLEST_TEMPERATURE = float(np.finfo(np.float32).tiny)  # below, float32 has no full precision left
LARGEST_TEMPERATURE = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """What a user may ask of the draw; None leaves a filter out.

    Args:
        temperature: 0 for the most likely token, else a positive float32.
        top_k: At least 1.
        top_p: Above 0, at most 1, which lets every token through.
        min_p: Between 0, which lets every token through, and 1.

    Raises:
        ValueError: a number is out of its range; all at once.
    """

    temperature: float
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.temperature != 0 and not SMALLEST_TEMPERATURE <= self.temperature <= LARGEST_TEMPERATURE:
            problems.append(f"temperature is 0 or a positive number of float32, not {self.temperature}")
        if self.top_k is not None and (isinstance(self.top_k, bool) or self.top_k != int(self.top_k) or self.top_k < 1):
            problems.append(f"top_k is a whole number of at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            problems.append(f"top_p lies above 0 and is at most 1, not {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            problems.append(f"min_p lies between 0 and 1, not {self.min_p}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn: temperature 0 takes the most likely token, whatever the filters."""
        return self.temperature == 0


def sampling_probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probability of each token to be drawn, in float64: the definition, written to be read.

    Args:
        logits: [..., V], finite or −inf.
        sampling: What to apply.
    """
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    if sampling.is_greedy:
        return np.asarray(np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None], np.float64)
    x = x / sampling.temperature
    if sampling.top_k is not None:
        kth = min(sampling.top_k, x.shape[-1]) - 1
        x = _keep_from(x, -np.sort(-x, axis=-1)[..., kth])
    if sampling.top_p is not None and sampling.top_p < 1:
        falling = -np.sort(-x, axis=-1)
        weights = _softmax(falling)
        last = (np.cumsum(weights, axis=-1) - weights < sampling.top_p).sum(axis=-1) - 1
        x = _keep_from(x, np.take_along_axis(falling, last[..., None], axis=-1)[..., 0])
    if sampling.min_p:
        x = _keep_from(x, math.log(sampling.min_p) + x.max(axis=-1))
    return _softmax(x)


def _keep_from(x: np.ndarray, least: np.ndarray) -> np.ndarray:
    return np.where(x >= least[..., None], x, -np.inf)


def _softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities
