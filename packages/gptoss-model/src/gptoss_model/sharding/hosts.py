"""Values on the host, whichever process's devices hold them."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import ArrayLike

__all__ = ["host_array"]


def host_array(array: ArrayLike | jax.Array) -> np.ndarray:
    """The whole array in every process; waits for it.

    Where devices of other processes hold a part, it comes over the network, so that all processes
    must ask for the same at the same place of their programs.
    """
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        whole: np.ndarray = multihost_utils.process_allgather(array, tiled=True)
        return whole
    return np.asarray(array)
