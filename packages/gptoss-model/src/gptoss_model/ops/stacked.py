"""The matrices of one layer, read out of the stack of all layers without slicing the layer first."""

import dataclasses

import jax
from jaxtyping import Array, Int

from gptoss_model.ops.mxfp4 import Mxfp4Array

__all__ = ["StackedMatrices", "unstacked"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StackedMatrices:
    """A matrix [out, in] as one entry of [L, out, in], or the experts' [E, out, in] as one of [L, E, out, in].

    Attributes:
        stack: The matrices of all layers, an array or packed.
        row: Which entry.
    """

    stack: jax.Array | Mxfp4Array
    row: Int[Array, ""]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the layer has."""
        return self.stack.shape[1:]

    def __getitem__(self, expert: int | Int[Array, ""]) -> jax.Array | Mxfp4Array:
        """One expert's matrix; nothing else is read."""
        return self.stack[self.row, expert]

    def flat(self, experts: Int[Array, " A"]) -> tuple[jax.Array | Mxfp4Array, Int[Array, " A"]]:
        """The matrices of all layers in one row, [L · E, out, in], and where those experts stand in it."""
        flat = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), self.stack)
        return flat, self.row * self.shape[0] + experts


def unstacked(matrices: jax.Array | Mxfp4Array | StackedMatrices) -> jax.Array | Mxfp4Array:
    """All that a layer has in one array, or packed; out of a stack it is copied."""
    return matrices.stack[matrices.row] if isinstance(matrices, StackedMatrices) else matrices
