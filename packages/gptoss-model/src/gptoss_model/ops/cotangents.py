"""What a backward pass of ours returns for arguments that have no gradient."""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["without_integers"]


def without_integers[T](gradients: T) -> T:
    """A pytree of gradients in which every integer array has become what JAX wants there: nothing, in its shape."""

    def replace(gradient: jax.Array) -> jax.Array | np.ndarray:
        if jnp.issubdtype(gradient.dtype, jnp.integer):
            return np.zeros(gradient.shape, jax.dtypes.float0)
        return gradient

    replaced: T = jax.tree.map(replace, gradients)
    return replaced
