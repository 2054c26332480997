"""Experts: their weights, packed or decoded, the MLP of one of them, and the weighted sum of several.

Every strategy is built from these, so that all share one rounding: in bf16 each product is
rounded before its bias is added, and the weighted sum once at its end.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.ops.linear import linear
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.mxfp4 import Mxfp4Array, SplitMatrix
from gptoss_model.ops.rounding import add_rounded, rounded
from gptoss_model.ops.row_products import gathered_row_products
from gptoss_model.ops.stacked import StackedMatrices, unstacked
from gptoss_model.ops.swiglu import swiglu

__all__ = [
    "Expert",
    "ExpertWeights",
    "apply_expert",
    "apply_experts_to_rows",
    "combine_experts",
    "expert_hidden",
    "expert_output",
    "has_expert",
    "inspect_experts",
]

type ExpertMatrices = jax.Array | Mxfp4Array | StackedMatrices

MOST_ROWS_AT_ONCE = 32  # partial sums are a tenth of a matrix a row: 212 MB of f32 for 32 rows of gpt-oss-20b


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpertWeights:
    """The experts of a layer.

    Attributes:
        gate_up_proj: [E, 2F, D], gate in the even rows; an array, packed, or in a stack of either.
        gate_up_proj_bias: [E, 2F].
        down_proj: [E, D, F], likewise.
        down_proj_bias: [E, D].
        gate_up_update: What LoRA adds to `gate_up_proj`.
        down_update: What it adds to `down_proj`.
    """

    gate_up_proj: ExpertMatrices
    gate_up_proj_bias: jax.Array
    down_proj: ExpertMatrices
    down_proj_bias: jax.Array
    gate_up_update: LowRank | None = None
    down_update: LowRank | None = None

    @property
    def count(self) -> int:
        """Number of experts E."""
        return self.gate_up_proj_bias.shape[0]

    def expert(self, number: Int[Array, ""], dtype: DTypeLike) -> "Expert":
        """One expert, decoded to `dtype`; the matrices of no other are read."""
        return Expert(
            _matrix(self.gate_up_proj, number, dtype),
            self.gate_up_proj_bias[number],
            _matrix(self.down_proj, number, dtype),
            self.down_proj_bias[number],
            None if self.gate_up_update is None else self.gate_up_update[number],
            None if self.down_update is None else self.down_update[number],
        )

    def unstacked(self) -> "ExpertWeights":
        """The same with nothing in a stack, for strategies that want the matrices of all experts at once."""
        return dataclasses.replace(self, gate_up_proj=unstacked(self.gate_up_proj), down_proj=unstacked(self.down_proj))


class Expert(NamedTuple):
    """One expert; its arrays as in `ExpertWeights`, without the axis E."""

    gate_up_proj: jax.Array | SplitMatrix
    gate_up_proj_bias: jax.Array
    down_proj: jax.Array | SplitMatrix
    down_proj_bias: jax.Array
    gate_up_update: LowRank | None = None
    down_update: LowRank | None = None


def has_expert(indices: Int[Array, "*assignments"], count: int) -> Bool[Array, "*assignments"]:
    """Whether each assignment is to one of the experts 0 … count − 1, and not to nobody."""
    return (indices >= 0) & (indices < count)


def apply_expert(
    x: Float[Array, "rows D"], expert: Expert, *, swiglu_alpha: float, swiglu_limit: float
) -> Float[Array, "rows D"]:
    """The MLP of one expert on rows that chose it.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    return expert_output(expert_hidden(x, expert), expert, swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit)


def expert_hidden(x: Float[Array, "rows D"], expert: Expert) -> Float[Array, "rows gate_up"]:
    """The first half of `apply_expert`: the input of SwiGLU."""
    return _add_bias(linear(x, expert.gate_up_proj, update=expert.gate_up_update), expert.gate_up_proj_bias)


def expert_output(
    hidden: Float[Array, "rows gate_up"], expert: Expert, *, swiglu_alpha: float, swiglu_limit: float
) -> Float[Array, "rows D"]:
    """The second half of `apply_expert`."""
    activated = swiglu(hidden, alpha=swiglu_alpha, limit=swiglu_limit)
    return add_rounded(linear(activated, expert.down_proj, update=expert.down_update), expert.down_proj_bias)


def apply_experts_to_rows(
    x: Float[Array, "A D"],
    experts: ExpertWeights,
    chosen: Int[Array, " A"],
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "A D"]:
    """The MLP of another expert for each row; `chosen` within 0 … E − 1.

    On a CPU `MOST_ROWS_AT_ONCE` go at once, see `gptoss_model.ops.row_products`; elsewhere one after the other.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    return _steps_of_experts(x, experts, chosen, alpha=swiglu_alpha, limit=swiglu_limit)[-1]


def inspect_experts(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> tuple[Float[Array, "M k gate_up"], Float[Array, "M k F"], Float[Array, "M k D"]]:
    """What happens inside each token's chosen experts, for probes: what strategies add up and do not keep.

    Each assignment is computed on its own, as the `gathered` strategy does; zeros where there is no expert.

    Returns:
        The input of SwiGLU, its output, and the experts' outputs, not yet weighted.
    """
    M, k = indices.shape
    chosen = indices.reshape(M * k)
    steps = _steps_of_experts(
        jnp.repeat(x, k, axis=0),
        experts,
        jnp.clip(chosen, 0, experts.count - 1),
        alpha=swiglu_alpha,
        limit=swiglu_limit,
    )
    exists = has_expert(chosen, experts.count)[:, None]
    hidden, activated, outputs = (jnp.where(exists, step, 0).reshape(M, k, -1) for step in steps)
    return hidden, activated, outputs


def _steps_of_experts(
    x: jax.Array, experts: ExpertWeights, chosen: jax.Array, *, alpha: float, limit: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each row its expert's input of SwiGLU, output of SwiGLU, and output."""

    def one_by_one(rows: jax.Array, matrices: ExpertMatrices, chosen: jax.Array) -> jax.Array:
        def multiply_one(assignment: tuple[jax.Array, jax.Array]) -> jax.Array:
            row, expert = assignment
            return linear(row[None], _matrix(matrices, expert, rows.dtype))[0]

        products: jax.Array = lax.map(multiply_one, (rows, chosen))
        return products

    def all_at_once(rows: jax.Array, matrices: ExpertMatrices, chosen: jax.Array) -> jax.Array:
        if isinstance(matrices, StackedMatrices):
            matrices, chosen = matrices.flat(chosen)
        return rounded(gathered_row_products(rows, matrices, chosen), rows.dtype)

    def in_pieces(rows: jax.Array, matrices: ExpertMatrices, chosen: jax.Array) -> jax.Array:
        count = -(-len(rows) // MOST_ROWS_AT_ONCE)
        if count <= 1:
            return all_at_once(rows, matrices, chosen)
        size = -(-len(rows) // count)
        padding = count * size - len(rows)  # less than a row a piece; it repeats the last row's expert
        pieces = jnp.pad(rows, ((0, padding), (0, 0))).reshape(count, size, -1)
        experts_of_pieces = jnp.pad(chosen, (0, padding), mode="edge").reshape(count, size)
        products: jax.Array = lax.map(
            lambda piece: all_at_once(piece[0], matrices, piece[1]), (pieces, experts_of_pieces)
        )
        return products.reshape(count * size, -1)[: len(rows)]

    def multiply(rows: jax.Array, matrices: ExpertMatrices, update: LowRank | None) -> jax.Array:
        products: jax.Array = lax.platform_dependent(rows, matrices, chosen, cpu=in_pieces, default=one_by_one)
        if update is None:
            return products
        return rounded(products.astype(jnp.float32) + update.of_assigned_rows(rows, chosen), rows.dtype)

    hidden = _add_bias(multiply(x, experts.gate_up_proj, experts.gate_up_update), experts.gate_up_proj_bias[chosen])
    activated = swiglu(hidden, alpha=alpha, limit=limit)
    outputs = multiply(activated, experts.down_proj, experts.down_update)
    return hidden, activated, add_rounded(outputs, experts.down_proj_bias[chosen])


def combine_experts(outputs: Float[Array, "M k D"], weights: Float[Array, "M k"]) -> Float[Array, "M D"]:
    """The weighted sum over a token's experts, accumulated in f32.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    products = outputs.astype(jnp.float32) * weights.astype(jnp.float32)[..., None]
    return rounded(products.sum(axis=1), outputs.dtype)


def _add_bias(product: jax.Array, bias: jax.Array) -> jax.Array:
    # Barrier: SwiGLU reads every second entry; fused with that, XLA's CPU backend adds and rounds without vectors.
    total: jax.Array = lax.optimization_barrier(add_rounded(product, bias))
    return total


def _matrix(matrices: ExpertMatrices, expert: jax.Array, dtype: DTypeLike) -> jax.Array | SplitMatrix:
    matrix = matrices[expert]
    return matrix.decode_split(dtype) if isinstance(matrix, Mxfp4Array) else matrix.astype(dtype)
