"""What a batch of token ids must be, checked on the host before anything is compiled.

Inside a transformation the values are not known yet: there only shapes and dtypes are checked, and
an id out of range is clipped, as XLA's gather does.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gptoss_model.sharding.hosts import host_array

__all__ = ["check_mask", "check_room", "check_tokens"]


def check_tokens(tokens: jax.Array, mask: jax.Array | None, *, vocab_size: int) -> tuple[int, int]:
    """The batch and the length of token ids [B, T].

    Raises:
        ValueError: they are not integers [B, T], or a real one (`mask`) is not in the vocabulary.
    """
    shape, dtype = jnp.shape(tokens), jnp.result_type(tokens)
    if len(shape) != 2 or 0 in shape or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"tokens are integers [B, T] with at least one token, not {dtype.name} {list(shape)}")
    if isinstance(tokens, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return shape[0], shape[1]
    ids = host_array(tokens)
    wrong = (ids < 0) | (ids >= vocab_size)
    if mask is not None and jnp.shape(mask) == shape:
        wrong &= host_array(mask).astype(bool)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ValueError(f"token id {ids[row, column]} at [{row}, {column}] is not in 0 … {vocab_size - 1}")
    return shape[0], shape[1]


def check_mask(mask: jax.Array | None, shape: tuple[int, int]) -> jax.Array:
    """The mask, all True where there is none.

    Raises:
        ValueError: it is not bool, or has another shape than the tokens.
    """
    if mask is None:
        return jnp.ones(shape, bool)
    if jnp.result_type(mask) != jnp.bool_ or jnp.shape(mask) != shape:
        raise ValueError(
            f"mask must be bool {list(shape)} as the tokens, True where a token is real; "
            f"it is {jnp.result_type(mask).name} {list(jnp.shape(mask))}"
        )
    return jnp.asarray(mask)


def check_room(lengths: jax.Array, mask: jax.Array, max_length: int) -> None:
    """That a cache has room for the real tokens of a mask [B, T].

    Raises:
        ValueError: a sequence would grow beyond `max_length`, or the batch is another one.
    """
    if lengths.shape[0] != mask.shape[0]:
        raise ValueError(f"the cache holds {lengths.shape[0]} sequences, the tokens {mask.shape[0]}")
    if isinstance(lengths, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return
    before, added = host_array(lengths), host_array(mask).sum(axis=1)
    for row in np.flatnonzero(before + added > max_length):
        raise ValueError(
            f"sequence {row} has {before[row]} tokens in a cache of max_length {max_length}: "
            f"{added[row]} more make {before[row] + added[row]}. Make the cache larger with init_cache"
        )
