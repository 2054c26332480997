"""Experts: their weights, packed or decoded, the MLP of one of them, and the weighted sum of several.

Every strategy is built from these three, so that all share one rounding: in bf16 each product is
rounded before its bias is added, and the weighted sum once at its end.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.ops.linear import linear
from gptoss_model.ops.moe.stacked import StackedMatrices, unstacked
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.ops.rounding import add_rounded, rounded
from gptoss_model.ops.swiglu import swiglu

__all__ = ["ExpertWeights", "apply_expert", "combine_experts", "has_expert"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpertWeights:
    """The experts of a layer.

    Attributes:
        gate_up_proj: [E, 2F, D], gate in the even rows; an array, packed, or in a stack of either.
        gate_up_proj_bias: [E, 2F].
        down_proj: [E, D, F], likewise.
        down_proj_bias: [E, D].
    """

    gate_up_proj: jax.Array | Mxfp4Array | StackedMatrices
    gate_up_proj_bias: jax.Array
    down_proj: jax.Array | Mxfp4Array | StackedMatrices
    down_proj_bias: jax.Array

    @property
    def count(self) -> int:
        """Number of experts E."""
        return self.gate_up_proj_bias.shape[0]

    def unstacked(self) -> "ExpertWeights":
        """The same with nothing in a stack, for strategies that want the matrices of all experts at once."""
        return dataclasses.replace(self, gate_up_proj=unstacked(self.gate_up_proj), down_proj=unstacked(self.down_proj))


def has_expert(indices: Int[Array, "*assignments"], count: int) -> Bool[Array, "*assignments"]:
    """Whether each assignment is to one of the experts 0 … count − 1, and not to nobody."""
    return (indices >= 0) & (indices < count)


def apply_expert(
    x: Float[Array, "rows D"],
    experts: ExpertWeights,
    expert: Int[Array, ""],
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "rows D"]:
    """The MLP of one expert on rows that chose it; only its own matrices are read and decoded.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    hidden = linear(x, _matrix(experts.gate_up_proj, expert, x.dtype))
    hidden = add_rounded(hidden, experts.gate_up_proj_bias[expert])
    activated = swiglu(hidden, alpha=swiglu_alpha, limit=swiglu_limit)
    output = linear(activated, _matrix(experts.down_proj, expert, x.dtype))
    return add_rounded(output, experts.down_proj_bias[expert])


def combine_experts(outputs: Float[Array, "M k D"], weights: Float[Array, "M k"]) -> Float[Array, "M D"]:
    """The weighted sum over a token's experts, accumulated in f32.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    products = outputs.astype(jnp.float32) * weights.astype(jnp.float32)[..., None]
    return rounded(products.sum(axis=1), outputs.dtype)


def _matrix(matrices: jax.Array | Mxfp4Array | StackedMatrices, expert: jax.Array, dtype: DTypeLike) -> jax.Array:
    matrix = matrices[expert]
    return matrix.decode(dtype) if isinstance(matrix, Mxfp4Array) else matrix.astype(dtype)
