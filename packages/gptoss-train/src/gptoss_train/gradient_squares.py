"""Squares of all gradients as one array, for norms, clipping and the search for what is no number.

Each operation on each parameter is a kernel that XLA must compile, and most parameters are small: so theirs are
joined before they are squared, and summed on the host, where they are read.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gptoss_train.parameters import Parameters, by_layer

__all__ = ["GradientSquares"]

LARGEST_UNSUMMED = 4096  # gradients of a parameter; of more XLA's sum on a CPU is a library's, and not compiled


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientSquares:
    """Squares of gradients, or sums of them.

    Attributes:
        values: One parameter after the other: the squares of a small one as they are, of others their sum, one a
            layer of a stack.
        rows: Name of each parameter, how many layers it has, and how many values each of them.
    """

    values: jax.Array
    rows: tuple[tuple[str, int, int], ...] = dataclasses.field(metadata={"static": True})

    @staticmethod
    def of(gradients: Parameters) -> "GradientSquares":
        """Those of all gradients."""
        layers = {name: by_layer(name, gradient) for name, gradient in gradients.items()}
        small = {name: value for name, value in layers.items() if value.size <= LARGEST_UNSUMMED}
        sums = {name: jnp.square(value).sum(axis=-1) for name, value in layers.items() if name not in small}
        rows = [(name, len(value), 1) for name, value in sums.items()]
        rows += [(name, len(value), value.shape[1]) for name, value in small.items()]
        joined = [jnp.square(jnp.concatenate([value.reshape(-1) for value in small.values()]))] if small else []
        # Barrier: XLA makes of the sum of what is joined the sum of all there was before, and squares everything twice.
        values = jax.lax.optimization_barrier(jnp.concatenate([*sums.values(), *joined]))
        return GradientSquares(values=values, rows=tuple(rows))

    def norm(self) -> jax.Array:
        """Of all gradients together."""
        return jnp.sqrt(self.values.sum())

    def sums(self) -> dict[str, np.ndarray]:
        """By parameter, one a layer."""
        ends = itertools.accumulate(layers * each for _, layers, each in self.rows)
        host = np.asarray(self.values).astype(np.float64)
        return {
            name: host[end - layers * each : end].reshape(layers, each).sum(axis=-1)
            for (name, layers, each), end in zip(self.rows, ends, strict=True)
        }

    def are_finite(self) -> dict[str, np.ndarray]:
        """For each parameter whether its gradient, and so the sum of its squares in f32, is a number; one a layer."""
        return {name: found <= np.finfo(np.float32).max for name, found in self.sums().items()}
