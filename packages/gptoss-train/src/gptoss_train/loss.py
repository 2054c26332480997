"""Losses: cross-entropy over the vocabulary a chunk at a time, and what keeps the router in order.

Logits [M, V] are never there as a whole: a loop over chunks of the vocabulary keeps a running
maximum and sum, and the backward pass, which keeps those and its arguments, computes each chunk again,
turns it into p − [column = target], and adds up what it means for hidden states and matrix. Memory:
M·chunk logits in f32, and backwards the matrix's gradient. Where V is split over the mesh axis `tensor`,
`parts` of it are gone through side by side, each device its own.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

__all__ = ["RouterLosses", "cross_entropy", "router_losses"]


class RouterLosses(NamedTuple):
    """What the routers do.

    Attributes:
        load_balance: E · Σ over experts of (assignments a token, k in sum) · (mean probability), mean over layers.
        z: Mean over tokens and layers of the squared log of the sum of the exponentials of the logits.
        expert_load: Share of each layer's assignments that each expert gets, [L, E]; 1 / E where all get as much.
    """

    load_balance: jax.Array
    z: jax.Array
    expert_load: jax.Array


def router_losses(
    logits: Float[Array, "L B T E"], is_real: Bool[Array, "B T"], *, experts_per_token: int
) -> RouterLosses:
    """The losses of the routers over real tokens only; padding weighs nothing, wherever it stands.

    Of one layer the load-balance loss is that of transformers; several layers are averaged, for a
    layer's favourites must not make up for another's.

    Source: Fedus et al., Switch Transformers (arXiv:2101.03961), equations 4 to 6; Zoph et al., ST-MoE
    (arXiv:2202.08906), equation 5; transformers `load_balancing_loss_func`.
    """
    E = logits.shape[-1]
    logits = logits.astype(jnp.float32)
    weight = is_real.astype(jnp.float32)
    count = jnp.maximum(weight.sum(), 1)
    _, chosen = lax.top_k(logits, experts_per_token)
    hits = (chosen[..., None] == jnp.arange(E)).any(axis=-2).astype(jnp.float32)
    assigned = (hits * weight[..., None]).sum(axis=(1, 2)) / count
    log_sums = jax.nn.logsumexp(logits, axis=-1)
    probabilities = jnp.exp(logits - log_sums[..., None])
    probability = (probabilities * weight[..., None]).sum(axis=(1, 2)) / count
    return RouterLosses(
        load_balance=E * (assigned * probability).sum(axis=-1).mean(),
        z=(jnp.square(log_sums) * weight).sum(axis=(1, 2)).mean() / count,
        expert_load=assigned / experts_per_token,
    )


def cross_entropy(
    hidden: Float[Array, "M D"],
    unembedding: Float[Array, "V D"],
    targets: Int[Array, " M"],
    *,
    chunk: int,
    parts: int = 1,
) -> Float[Array, " M"]:
    """−log softmax(hidden · unembeddingᵀ)[target] of each row, in f32.

    Args:
        hidden: Normalised states.
        unembedding: One row a token of the vocabulary.
        targets: Ids below V.
        chunk: Columns of logits at a time, over all parts.
        parts: Into how many parts V is split over devices; divides it.
    """
    V = unembedding.shape[0]
    columns = min(max(chunk // parts, 1), V // parts)
    return _cross_entropy(hidden, unembedding, targets, columns, parts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _cross_entropy(
    hidden: jax.Array, unembedding: jax.Array, targets: jax.Array, columns: int, parts: int
) -> jax.Array:
    return _forward(hidden, unembedding, targets, columns, parts)[0]


type Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _forward(
    hidden: jax.Array, unembedding: jax.Array, targets: jax.Array, columns: int, parts: int
) -> tuple[jax.Array, Saved]:
    M = hidden.shape[0]
    matrix = unembedding.reshape(parts, -1, unembedding.shape[-1])

    def visit(turn: jax.Array, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        highest, total, found = state
        logits, ids, _, _ = _chunk(hidden, matrix, turn, columns)
        raised = jnp.maximum(highest, logits.max(axis=(1, 2)))
        total = total * jnp.exp(highest - raised) + jnp.exp(logits - raised[:, None, None]).sum(axis=(1, 2))
        is_target = ids == targets[:, None, None]
        return raised, total, found + jnp.where(is_target, logits, 0).sum(axis=(1, 2))

    start = jnp.full(M, -jnp.inf, jnp.float32), jnp.zeros(M, jnp.float32), jnp.zeros(M, jnp.float32)
    highest, total, found = lax.fori_loop(0, -(-matrix.shape[1] // columns), visit, start)
    log_sums = highest + jnp.log(total)
    return log_sums - found, (hidden, unembedding, targets, log_sums)


def _backward(columns: int, parts: int, saved: Saved, gradient: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    hidden, unembedding, targets, log_sums = saved
    matrix = unembedding.reshape(parts, -1, unembedding.shape[-1])

    def visit(turn: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d_hidden, d_matrix = state
        logits, ids, rows, start = _chunk(hidden, matrix, turn, columns)
        is_target = ids == targets[:, None, None]
        d_logits = (jnp.exp(logits - log_sums[:, None, None]) - is_target) * gradient[:, None, None]
        d_logits = d_logits.astype(hidden.dtype).reshape(len(hidden), -1)
        d_hidden += _product("mc,cd->md", d_logits, rows)
        before = lax.dynamic_slice_in_dim(d_matrix, start, columns, axis=1)
        after = before + _product("mc,md->cd", d_logits, hidden).reshape(before.shape)
        return d_hidden, lax.dynamic_update_slice_in_dim(d_matrix, after, start, axis=1)

    nothing = jnp.zeros(hidden.shape, jnp.float32), jnp.zeros(matrix.shape, jnp.float32)
    d_hidden, d_matrix = lax.fori_loop(0, -(-matrix.shape[1] // columns), visit, nothing)
    return d_hidden.astype(hidden.dtype), d_matrix.reshape(unembedding.shape).astype(unembedding.dtype), None


_cross_entropy.defvjp(_forward, _backward)


def _chunk(
    hidden: jax.Array, matrix: jax.Array, turn: jax.Array, columns: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Logits [M, parts, columns], their ids [parts, columns], their rows, and where the chunk starts in each part.

    The rows are those of the matrix, all parts' together, as they are multiplied.

    A last chunk that is not whole starts earlier rather than sticking out; what it shares with the one before is −∞
    there, and has the id of nobody.
    """
    parts, extent, width = matrix.shape
    start = jnp.minimum(turn * columns, extent - columns)
    rows = lax.dynamic_slice_in_dim(matrix, start, columns, axis=1).astype(hidden.dtype).reshape(-1, width)
    logits = _product("md,cd->mc", hidden, rows).reshape(-1, parts, columns)
    place = start + jnp.arange(columns)
    ids = jnp.arange(parts)[:, None] * extent + place
    if extent % columns == 0:
        return logits, ids, rows, start
    is_new = place >= turn * columns
    return jnp.where(is_new, logits, -jnp.inf), jnp.where(is_new, ids, -1), rows, start


def _product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, y, precision=precision, preferred_element_type=jnp.float32)
