"""What a batch of token ids and its mask must be, checked before ONNX Runtime sees them."""

import numpy as np
from numpy.typing import ArrayLike

from gptoss_onnx.errors import RequestError
from gptoss_onnx.kv_cache import Cache

__all__ = ["check_batch", "last_real_columns", "token_batch"]


def token_batch(tokens: ArrayLike, mask: ArrayLike | None, *, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids int64 [B, T], 0 where there is padding, and the mask bool [B, T], all True by default.

    Raises:
        RequestError: the tokens are no integers [B, T], the mask is not bool of their shape, or a
            real token is not in the vocabulary.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise RequestError("tokens are integers [B, T] with at least one token", found=f"{ids.dtype} {list(ids.shape)}")
    is_real = np.ones(ids.shape, np.bool_) if mask is None else np.asarray(mask)
    if is_real.dtype != np.bool_ or is_real.shape != ids.shape:
        raise RequestError(
            "the mask is True where a token is real",
            expected=f"bool {list(ids.shape)} as the tokens",
            found=f"{is_real.dtype} {list(is_real.shape)}",
        )
    ids = np.where(is_real, ids, 0)
    if ids.min() < 0 or ids.max() >= vocab_size:
        row, column = (int(place) for place in np.argwhere((ids < 0) | (ids >= vocab_size))[0])
        raise RequestError(
            "the token is not in the vocabulary",
            where=f"tokens[{row}, {column}]",
            expected=f"0 … {vocab_size - 1}",
            found=ids[row, column],
        )
    return ids.astype(np.int64), is_real


def last_real_columns(is_real: np.ndarray) -> np.ndarray:
    """The last column of each row of a mask bool [B, T] that is True, int64 [B]; T − 1 where there is none."""
    last: np.ndarray = is_real.shape[1] - 1 - is_real[:, ::-1].argmax(axis=1)
    return last


def check_batch(cache: Cache, is_real: np.ndarray) -> None:
    """Holds a cache against the tokens [B, T] that are to follow it.

    Raises:
        RequestError: it is for another batch.
    """
    if cache.batch != len(is_real):
        raise RequestError("the cache is for another batch", expected=f"{len(is_real)} sequences", found=cache.batch)
