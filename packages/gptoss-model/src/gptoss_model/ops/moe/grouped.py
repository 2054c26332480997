"""Grouped products: what the strategies `ragged` and `megablox` have in common.

The M·k assignments are sorted by expert, so that each expert's rows stand together; a grouped
product multiplies each run of rows by its expert's matrix; the results go back to their tokens.
The kernels take arrays, so packed experts are decoded first, all of them: one matrix [E, 2F, D] at
a time (20b in bf16: 1.06 GB, 120b: 4.25 GB), freed when its product is done. Where that is too
much, `tiled` decodes one expert at a time. Otherwise memory is M·k rows of 2F and of D.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.moe.experts import ExpertWeights, combine_experts
from gptoss_model.ops.moe.sorting import sort_by_expert
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.ops.rounding import add_rounded, rounded
from gptoss_model.ops.stacked import StackedMatrices, unstacked
from gptoss_model.ops.swiglu import swiglu

__all__ = ["GroupedProduct", "grouped_moe"]


# Rows [A, in], matrices [E, out, in] and runs int32 [E] to [A, out] in f32: the first `runs[0]` rows
# times the transposed first matrix, and so on. Rows behind the last run may come out as anything.
type GroupedProduct = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def grouped_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    product: GroupedProduct,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts, by a grouped product; see `gptoss_model.ops.moe.MoeStrategy`."""
    M, k = indices.shape
    E = experts.count
    chosen, order, runs = sort_by_expert(indices, E)  # those of nobody stand behind the last expert's rows
    expert_of = chosen[order]
    is_somebodys = (expert_of < E)[:, None]

    def multiply(
        rows: jax.Array,
        matrices: jax.Array | Mxfp4Array | StackedMatrices,
        biases: jax.Array,
        update: LowRank | None,
    ) -> jax.Array:
        products = product(rows, _arrays(matrices, x.dtype), runs)
        if update is not None:
            update = update.cast(x.dtype)
            inner = rounded(jnp.where(is_somebodys, product(rows, update.a, runs), 0), x.dtype)
            products += product(inner, update.b, runs) * update.scale
        products = rounded(jnp.where(is_somebodys, products, 0), x.dtype)
        return add_rounded(products, biases.at[expert_of].get(mode="fill", fill_value=0))

    rows = jnp.where(is_somebodys, x[order // k], 0)
    hidden = multiply(rows, experts.gate_up_proj, experts.gate_up_proj_bias, experts.gate_up_update)
    activated = swiglu(hidden, alpha=swiglu_alpha, limit=swiglu_limit)
    outputs = multiply(activated, experts.down_proj, experts.down_proj_bias, experts.down_update)
    outputs = jnp.zeros_like(outputs).at[order].set(outputs, unique_indices=True)
    return combine_experts(outputs.reshape(M, k, -1), weights)


def _arrays(matrices: jax.Array | Mxfp4Array | StackedMatrices, dtype: DTypeLike) -> jax.Array:
    matrices = unstacked(matrices)
    if isinstance(matrices, Mxfp4Array):
        return matrices.decode(dtype)
    return matrices.astype(dtype)
