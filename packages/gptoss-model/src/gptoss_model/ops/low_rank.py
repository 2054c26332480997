"""Low-rank updates: what LoRA adds to a matrix, kept as its two factors.

The matrix itself is never touched, so it may stay packed: `x · (W + s·B·A)ᵀ` is computed as
`x · Wᵀ + s·(x · Aᵀ) · Bᵀ`, which costs r·(in + out) products a row instead of in·out.

Source: Hu et al., LoRA (arXiv:2106.09685), section 4.1.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gptoss_model.ops.products import einsum_in_f32
from gptoss_model.ops.rounding import rounded

__all__ = ["LowRank"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank:
    """The update s·B·A of a matrix [out, in], or of every expert's.

    Attributes:
        a: A, [r, in], or [E, r, in].
        b: B, [out, r], or [E, out, r].
        scale: s.
    """

    a: jax.Array
    b: jax.Array
    scale: float = dataclasses.field(metadata={"static": True})

    def __getitem__(self, expert: int | Int[Array, ""]) -> "LowRank":
        """The update of one expert."""
        return LowRank(self.a[expert], self.b[expert], self.scale)

    def cast(self, dtype: DTypeLike) -> "LowRank":
        """The same with factors as computing in `dtype` uses them."""
        return LowRank(rounded(self.a, dtype), rounded(self.b, dtype), self.scale)

    def of_rows(self, x: Float[Array, "rows in"]) -> Float[Array, "rows out"]:
        """What it adds to the products of the rows, in f32."""
        update = self.cast(x.dtype)
        inner = rounded(einsum_in_f32("mi,ri->mr", x, update.a), x.dtype)
        return einsum_in_f32("mr,or->mo", inner, update.b) * self.scale

    def of_assigned_rows(self, x: Float[Array, "A in"], chosen: Int[Array, " A"]) -> Float[Array, "A out"]:
        """The same where each row has an expert of its own; copies the factors of all of them."""
        update = self.cast(x.dtype)
        inner = rounded(einsum_in_f32("mi,mri->mr", x, update.a[chosen]), x.dtype)
        return einsum_in_f32("mr,mor->mo", inner, update.b[chosen]) * jnp.float32(self.scale)
