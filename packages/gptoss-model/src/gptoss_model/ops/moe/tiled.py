"""The `tiled` strategy: assignments sorted by expert, in tiles of rows that share one expert.

The M·k assignments (token, expert) are sorted by expert, so that each expert has a run of rows. A loop
goes over the experts that somebody chose: it reads and decodes the expert once, and an inner loop
takes its run in tiles of R rows. A run ends within its last tile, whose other rows are the next
expert's: what is computed for them is overwritten when it is their turn, so nothing needs padding but
the end.

Where most experts have some of a prompt's few rows and their matrices can be read as they stand, the first
rows of all runs are computed at once (`gptoss_model.ops.moe.in_place`), and the loops have the rest.

How often the loops turn depends on the routing, which reverse-mode differentiation by JAX cannot
know. So the backward pass is written out: it goes the same way, from the input of SwiGLU that the forward
pass has kept, and adds what a tile gives to the gradient of its expert, in f32, where it stands. Each assignment
has one place among the sorted rows, so that rows come and go by gathers alone, in both directions.

Memory: one decoded expert, the rows and their outputs, M·k + 2R each, and R rows inside the loop, or, of the
rows at once, some 2·M·k with their 2F activations in f32 (64 an expert of 20b: 47 MB, of 120b 189 MB); the
backward pass keeps its arguments, M rows, the input of SwiGLU, M·k + 2R rows of 2F, and the experts' outputs, and
adds the experts' gradients in f32. Where there is one, tiles have 2R rows, in both passes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Float, Int

from gptoss_model.ops.cotangents import without_integers
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.moe.experts import Expert, ExpertWeights, combine_experts, expert_hidden, expert_output
from gptoss_model.ops.moe.in_place import apply_in_place, rows_in_place
from gptoss_model.ops.moe.sorting import sort_by_expert
from gptoss_model.ops.stacked import StackedMatrices

__all__ = ["tile_rows", "tiled_moe"]

SMALLEST_TILE_ROWS = 8
LARGEST_TILE_ROWS = 256  # above, a product gains no more
TILE_COST_IN_ROWS = 12  # what a product costs besides its rows, on CPUs: 8 to 17 were measured
LEAST_SHARE_IN_PLACE = 0.75  # of the experts: with fewer, reading those that nobody chose takes what copying would
UNGUARDED: Mapping[str, Any] = {"mode": "promise_in_bounds", "wrap_negative_indices": False}  # each guard is a kernel
TRAINING_TILES = 2  # as many rows: in the backward pass each tile adds to the gradient of its expert's matrices


class Inputs(NamedTuple):
    """What is differentiated, and what the backward pass keeps: of the order of the rows, what it follows from."""

    x: jax.Array  # [M, D]
    indices: jax.Array  # [M, k]
    weights: jax.Array  # [M, k]
    leaves: list[jax.Array]  # of the experts


class Places(NamedTuple):
    """Where the rows of all assignments stand, sorted by expert."""

    order: jax.Array  # which assignment stands where, int32 [A]
    tokens: jax.Array  # whose row stands where, int32 [A]
    ranks: jax.Array  # where each assignment stands; the last row of all, if it is to nobody, int32 [M, k]
    runs: jax.Array  # how many rows each expert has, int32 [E]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is known before anything is computed.

    Attributes:
        rows_in_place: How many first rows of each run are computed at once, if most experts have any.
        rows: Of a tile, R.
        training_rows: Of a tile where there is a gradient, in both passes; at least R.
        structure: Of the experts, whose leaves are given: JAX may then fill in whatever it likes.
        alpha: Slope of SwiGLU's sigmoid.
        limit: SwiGLU's clamp.
    """

    rows_in_place: int
    rows: int
    training_rows: int
    structure: PyTreeDef
    alpha: float
    limit: float

    def last_row(self, assignments: int) -> int:
        """Of the sorted rows, which have room for the tile that begins at the last assignment."""
        return assignments + self.training_rows - 1

    def experts(self, leaves: list[jax.Array]) -> ExpertWeights:
        """The experts again."""
        experts: ExpertWeights = jax.tree.unflatten(self.structure, leaves)
        return experts

    def apply(self, x: jax.Array, expert: Expert) -> jax.Array:
        """One expert on rows [R, D]."""
        return self.output(expert_hidden(x, expert), expert)

    def output(self, hidden: jax.Array, expert: Expert) -> jax.Array:
        """The same from the input of SwiGLU, [R, 2F]."""
        return expert_output(hidden, expert, swiglu_alpha=self.alpha, swiglu_limit=self.limit)


def tile_rows(assignments: int, experts: int) -> int:
    """Rows of a tile, a power of two.

    Every expert fills its last tile by half on average, and each tile costs as much as some more rows, c:
    runs of n rows cost least in tiles of sqrt(2 · n · c).
    """
    mean_run = -(-assignments // experts)
    cheapest = round(math.log2(2 * mean_run * TILE_COST_IN_ROWS) / 2)
    return min(max(1 << cheapest, SMALLEST_TILE_ROWS), LARGEST_TILE_ROWS)


def tiled_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`."""
    A = indices.size
    leaves, structure = jax.tree.flatten(experts)
    R = tile_rows(A, experts.count)
    settings = Settings(
        rows_in_place=rows_in_place(A, experts, x.dtype),
        rows=R,
        training_rows=R * TRAINING_TILES,
        structure=structure,
        alpha=swiglu_alpha,
        limit=swiglu_limit,
    )
    return _mix_experts(Inputs(x, indices, weights, leaves), settings)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _mix_experts(inputs: Inputs, settings: Settings) -> jax.Array:
    """The weighted sum of each token's experts, [M, D]."""
    places = _places(inputs, settings)
    return combine_experts(_rows_at(_run_experts(inputs, places, settings), places.ranks), inputs.weights)


type Saved = tuple[Inputs, jax.Array, jax.Array]  # and the input of SwiGLU by place, and outputs by assignment


def _forward(inputs: Inputs, settings: Settings) -> tuple[jax.Array, Saved]:
    """The same, and what the backward pass needs."""

    def compute(part: jax.Array, expert: Expert) -> list[jax.Array]:
        hidden = expert_hidden(part, expert)
        return [hidden, settings.output(hidden, expert)]

    places = _places(inputs, settings)
    columns = settings.experts(inputs.leaves).gate_up_proj_bias.shape[1], inputs.x.shape[1]
    hidden, outputs = _run_in_tiles(inputs, places, settings, compute, columns, rows=settings.training_rows)
    outputs = _rows_at(outputs, places.ranks)
    return combine_experts(outputs, inputs.weights), (inputs, hidden, outputs)


def _places(inputs: Inputs, settings: Settings) -> Places:
    experts, A = settings.experts(inputs.leaves), inputs.indices.size
    chosen, order, runs = sort_by_expert(inputs.indices, experts.count)
    ranks = jnp.zeros(A, jnp.int32).at[order].set(jnp.arange(A, dtype=jnp.int32), unique_indices=True, **UNGUARDED)
    # Assignments to nobody stand behind the last run, where its last tile may have written; the very last row is zero.
    ranks = jnp.where(chosen < experts.count, ranks, settings.last_row(A)).reshape(inputs.indices.shape)
    return Places(order, order // inputs.indices.shape[1], ranks, runs)


def _run_experts(inputs: Inputs, places: Places, settings: Settings) -> jax.Array:
    """Each expert on its run of rows: [A + 2R, D], in their order; no tile reaches the last row."""

    def compute(part: jax.Array, expert: Expert) -> list[jax.Array]:
        return [settings.apply(part, expert)]

    def in_tiles(done: jax.Array | None) -> jax.Array:
        columns = (inputs.x.shape[1],)
        [outputs] = _run_in_tiles(inputs, places, settings, compute, columns, rows=settings.rows, done=done)
        return outputs

    if not settings.rows_in_place:
        return in_tiles(None)
    runs, experts = places.runs, settings.experts(inputs.leaves)
    are_many = (runs > 0).sum() >= LEAST_SHARE_IN_PLACE * experts.count
    outputs = in_tiles(jnp.where(are_many, settings.rows_in_place, 0))

    def with_first_rows(outputs: jax.Array) -> jax.Array:
        """Last, for where a run has ended, the overhang of its last tile may stand in the first rows of the next."""
        first = apply_in_place(
            inputs.x, places.tokens, runs, experts, rows=settings.rows_in_place, apply=settings.apply
        )
        ends, numbers = jnp.cumsum(runs), jnp.arange(len(outputs))
        owners = jnp.searchsorted(ends, numbers, side="right", method="compare_all")
        within = numbers - (ends - runs).at[owners].get(mode="fill", fill_value=0)
        is_first = (owners < experts.count) & (within < settings.rows_in_place)
        return jnp.where(is_first[:, None], first.at[owners, within].get(mode="clip"), outputs)

    filled: jax.Array = lax.cond(are_many, with_first_rows, lambda outputs: outputs, outputs)
    return filled


def _run_in_tiles(
    inputs: Inputs,
    places: Places,
    settings: Settings,
    compute: Callable[[jax.Array, Expert], list[jax.Array]],
    columns: tuple[int, ...],
    *,
    rows: int,
    done: jax.Array | None = None,
) -> list[jax.Array]:
    """What is computed of each expert's run of rows, tile by tile: [A + 2R, columns] each, in their order.

    Args:
        inputs: The arguments.
        places: Where the rows stand.
        settings: What is known beforehand.
        compute: What is wanted of an expert on a tile [rows, D].
        columns: How many each of that has.
        rows: Of a tile.
        done: As many first rows of each run are computed elsewhere.
    """
    experts, x = settings.experts(inputs.leaves), _sorted_rows(inputs.x, places, settings)

    def visit(number: jax.Array, first: jax.Array, count: jax.Array, state: list[jax.Array]) -> list[jax.Array]:
        expert = experts.expert(number, x.dtype)

        def tile(turn: jax.Array, state: list[jax.Array]) -> list[jax.Array]:
            start = first + turn * rows
            return [_put(*pair, start) for pair in zip(state, compute(_slice(x, start, rows), expert), strict=True)]

        after: list[jax.Array] = lax.fori_loop(0, -(-count // rows), tile, state)
        return after

    nothing = [jnp.zeros((len(x), width), x.dtype) for width in columns]
    return _for_each_expert(places.runs, done, visit, nothing)


def _backward(settings: Settings, saved: Saved, gradient: jax.Array) -> tuple[Any]:
    inputs, hidden, outputs = saved
    x, weights = inputs.x, inputs.weights
    experts, R = settings.experts(inputs.leaves), settings.training_rows
    places = _places(inputs, settings)
    rows = _sorted_rows(x, places, settings)
    wide = gradient.astype(jnp.float32)
    d_weights = (outputs.astype(jnp.float32) * wide[:, None]).sum(axis=-1)
    d_outputs = _rows_at(wide, places.tokens) * _rows_at(weights.astype(jnp.float32).reshape(-1, 1), places.order)
    d_outputs = jnp.pad(d_outputs.astype(x.dtype), ((0, R), (0, 0)))
    trained = {name: array for name in Expert._fields if (array := _floats(getattr(experts, name))) is not None}
    halves = [[name for name in trained if name.startswith(half)] for half in ("gate_up", "down")]

    def visit(number: jax.Array, first: jax.Array, count: jax.Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        expert = experts.expert(number, x.dtype)
        first_half, second_half = ({name: getattr(expert, name) for name in half} for half in halves)

        def tile(turn: jax.Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
            d_rows, totals = state
            start = first + turn * R
            is_its_own = (turn * R + jnp.arange(R) < count)[:, None]
            _, pull_to_hidden = jax.vjp(
                lambda part, arrays: settings.output(part, expert._replace(**arrays)),
                _slice(hidden, start, R),
                second_half,
            )
            _, pull_to_rows = jax.vjp(
                lambda part, arrays: expert_hidden(part, expert._replace(**arrays)), _slice(rows, start, R), first_half
            )
            d_hidden, of_second = pull_to_hidden(jnp.where(is_its_own, _slice(d_outputs, start, R), 0))
            d_part, of_first = pull_to_rows(d_hidden)
            for name, more in (of_first | of_second).items():
                add = functools.partial(_add_to_entry, _place(getattr(experts, name), number))
                totals = totals | {name: jax.tree.map(add, totals[name], more)}
            return _put(d_rows, d_part, start), totals

        after: tuple[Any, ...] = lax.fori_loop(0, -(-count // R), tile, state)
        return after

    nowhere = jnp.zeros_like(rows), jax.tree.map(lambda array: jnp.zeros(array.shape, jnp.float32), trained)
    d_rows, totals = _for_each_expert(places.runs, None, visit, nowhere)
    d_experts = jax.tree.map(lambda total, array: total.astype(array.dtype), totals, trained)
    d_leaves = jax.tree.leaves(_as_experts(experts, d_experts))
    d_x = _rows_at(d_rows, places.ranks).astype(jnp.float32).sum(axis=1)
    gradients = inputs._replace(x=d_x.astype(x.dtype), weights=d_weights.astype(weights.dtype), leaves=d_leaves)
    return (without_integers(gradients),)


_mix_experts.defvjp(_forward, _backward)


def _for_each_expert[S](
    runs: jax.Array, done: jax.Array | None, visit: Callable[[jax.Array, jax.Array, jax.Array, S], S], state: S
) -> S:
    """Calls `visit` for each expert that has rows besides those done, in order: its number, their first and count."""
    rest = runs if done is None else jnp.maximum(runs - done, 0)
    those_with_any_first = jnp.argsort(rest == 0, stable=True)
    starts = jnp.cumsum(runs) - rest

    def step(turn: jax.Array, state: S) -> S:
        number = _entry(those_with_any_first, turn)
        return visit(number, _entry(starts, number), _entry(rest, number), state)

    result: S = lax.fori_loop(0, (rest > 0).sum(), step, state)
    return result


def _sorted_rows(x: jax.Array, places: Places, settings: Settings) -> jax.Array:
    """The tokens' rows, and some of no meaning: room for the tile that begins at the last row."""
    return _rows_at(x, jnp.pad(places.tokens, (0, settings.training_rows)))


def _rows_at(rows: jax.Array, places: jax.Array) -> jax.Array:
    found: jax.Array = rows.at[places].get(**UNGUARDED)
    return found


def _entry(array: jax.Array, place: jax.Array) -> jax.Array:
    entry: jax.Array = lax.dynamic_index_in_dim(array, place, keepdims=False, allow_negative_indices=False)
    return entry


def _slice(rows: jax.Array, start: jax.Array, count: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(rows, start, count, allow_negative_indices=False)


def _add_to_entry(place: tuple[jax.Array, ...], total: jax.Array, part: jax.Array) -> jax.Array:
    starts = *place, *[jnp.int32(0)] * part.ndim
    part = part.astype(total.dtype).reshape((1,) * len(place) + part.shape)
    before = lax.dynamic_slice(total, starts, part.shape, allow_negative_indices=False)
    return lax.dynamic_update_slice(total, before + part, starts, allow_negative_indices=False)


def _put(rows: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(rows, part, start, axis=0, allow_negative_indices=False)


def _floats(matrices: Any) -> jax.Array | LowRank | None:
    """The arrays that have a gradient, a stack as a whole; None of packed ones."""
    array = matrices.stack if isinstance(matrices, StackedMatrices) else matrices
    return array if isinstance(array, jax.Array | LowRank) else None


def _place(matrices: Any, number: jax.Array) -> tuple[jax.Array, ...]:
    return (matrices.row, number) if isinstance(matrices, StackedMatrices) else (number,)


def _as_experts(experts: ExpertWeights, gradients: Mapping[str, jax.Array | LowRank]) -> ExpertWeights:
    """The gradients where their arrays stand; packed arrays and rows of stacks stay as they are."""

    def replace(matrices: Any, gradient: Any) -> Any:
        return dataclasses.replace(matrices, stack=gradient) if isinstance(matrices, StackedMatrices) else gradient

    found = {name: replace(getattr(experts, name), gradient) for name, gradient in gradients.items()}
    return dataclasses.replace(experts, **found)
