"""The step: one compiled function from a state and a batch to the next state.

A batch of A parts is gone through one part after the other; gradients are added up in f32, so that
A changes nothing but memory. The loss is the mean over all targets of the whole batch by their
weights, however they are spread over parts and rows; the routers' losses are means of the parts'.
A step whose loss or gradient is no number leaves parameters and moments as they were.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from gptoss_model import GptOss
from gptoss_weights import layer_probe
from jaxtyping import Array, Float

from gptoss_train.batch import Batch
from gptoss_train.config import LossConfig
from gptoss_train.loss import cross_entropy, router_losses
from gptoss_train.parameters import Parameters, SplitModel, group_of, is_expert_matrix
from gptoss_train.quantization import straight_through
from gptoss_train.state import TrainState

__all__ = ["REMAT_POLICIES", "BatchLoss", "StepReport", "batch_loss", "make_evaluation", "make_step"]

REMAT_POLICIES: Mapping[str, Callable[..., bool] | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_with_no_batch_dims": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


SMALLEST_WEIGHT = 1e-30  # what the loss of a step with nothing to learn is divided by


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The losses of rows.

    Attributes:
        total: What is minimised, a part's share of it.
        cross_entropy: Sum over targets by their weights.
        load_balance: See `RouterLosses`.
        z: Likewise.
        expert_load: Likewise, [L, E].
    """

    total: jax.Array
    cross_entropy: jax.Array
    load_balance: jax.Array
    z: jax.Array
    expert_load: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step says of itself.

    Attributes:
        loss: Mean cross-entropy.
        total_loss: With the routers' losses as they are weighed.
        load_balance: Of the routers, unweighed.
        z: Likewise.
        expert_load: [L, E].
        tokens: How many tokens were real.
        targets: How many were learnt.
        grad_norm: Of all gradients together, before clipping.
        grad_norms: Of each group.
        is_applied: Whether the parameters have changed.
        is_finite: For each parameter whether its gradient is all numbers, an entry a layer of a stack.
        moved: For each parameter whether it has changed.
        has_gradient: For each whether its gradient is anywhere not zero, an entry a layer of a stack.
    """

    loss: jax.Array
    total_loss: jax.Array
    load_balance: jax.Array
    z: jax.Array
    expert_load: jax.Array
    tokens: jax.Array
    targets: jax.Array
    grad_norm: jax.Array
    grad_norms: dict[str, jax.Array]
    is_applied: jax.Array
    is_finite: dict[str, jax.Array]
    moved: dict[str, jax.Array]
    has_gradient: dict[str, jax.Array]


def batch_loss(
    model: GptOss, batch: Batch, config: LossConfig, *, total_weight: jax.Array, parts: int = 1, remat: str = "none"
) -> BatchLoss:
    """The losses of some rows [B, T].

    Args:
        model: The model.
        batch: The rows.
        config: What is minimised.
        total_weight: What the cross-entropy is divided by: the weights of all rows of the step.
        parts: In how many parts those are.
        remat: One of `REMAT_POLICIES`.
    """
    layers = [layer_probe(layer, "router_logits") for layer in range(model.config.num_hidden_layers)]
    is_real = jnp.asarray(batch.segments) > 0
    tokens, positions, segments = map(jnp.asarray, (batch.tokens, batch.positions, batch.segments))
    probes = model.forward(
        tokens,
        is_real,
        ["final_norm", *layers],
        positions=positions,
        segments=segments,
        remat=REMAT_POLICIES[remat],
    ).probes
    hidden = probes["final_norm"]
    split = 1 if model.placement is None else model.placement.partitioning.rules.tensor
    losses = cross_entropy(
        hidden.reshape(-1, hidden.shape[-1]),
        model.lm_head.weight[...],
        jnp.asarray(batch.targets).reshape(-1),
        chunk=config.vocabulary_chunk,
        parts=split,
    )
    weights = jnp.asarray(batch.weights).reshape(-1)
    # Where, not times zero: what padding comes to may be no number.
    summed = jnp.where(weights > 0, losses * weights, 0).sum()
    routers = router_losses(
        jnp.stack([probes[name] for name in layers]), is_real, experts_per_token=model.config.experts_per_token
    )
    extra = config.load_balance_weight * routers.load_balance + config.z_weight * routers.z
    return BatchLoss(
        total=summed / total_weight + extra / parts,
        cross_entropy=summed,
        load_balance=routers.load_balance,
        z=routers.z,
        expert_load=routers.expert_load,
    )


type Step = Callable[[TrainState, Mapping[str, Any], Batch], tuple[TrainState, StepReport]]


def make_step(
    split: SplitModel,
    optimizer: optax.GradientTransformation,
    config: LossConfig,
    *,
    remat: str = "none",
    quantization_aware: bool = False,
) -> Step:
    """The compiled step: (state, frozen parameters, batch [A, B, T]) → (next state, report).

    The memory of the state that is given is used for the next one.

    Args:
        split: The model taken apart.
        optimizer: Of `make_optimizer`.
        config: What is minimised.
        remat: One of `REMAT_POLICIES`.
        quantization_aware: Whether experts are rounded to MXFP4 in the forward pass.
    """

    def loss(
        parameters: Parameters, frozen: Mapping[str, Any], part: Batch, weight: jax.Array, parts: int
    ) -> tuple[jax.Array, BatchLoss]:
        if quantization_aware:
            parameters = {
                name: straight_through(value) if is_expert_matrix(name) else value for name, value in parameters.items()
            }
        model = split.merge(parameters, frozen)
        found = batch_loss(model, part, config, total_weight=weight, parts=parts, remat=remat)
        return found.total, found

    def run(state: TrainState, frozen: Mapping[str, Any], batch: Batch) -> tuple[TrainState, StepReport]:
        parts = batch.tokens.shape[0]
        weight = jnp.maximum(jnp.asarray(batch.weights).sum(), SMALLEST_WEIGHT)
        slope = jax.grad(loss, has_aux=True)

        def add(total: Parameters, part: Batch) -> tuple[Parameters, BatchLoss]:
            gradients, found = slope(state.parameters, frozen, part, weight, parts)
            return jax.tree.map(lambda sums, more: sums + more.astype(jnp.float32), total, gradients), found

        nothing = {name: jnp.zeros(value.shape, jnp.float32) for name, value in state.parameters.items()}
        if parts == 1:
            gradients, found = add(nothing, jax.tree.map(lambda array: array[0], batch))
            losses = jax.tree.map(lambda leaf: leaf[None], found)
        else:
            gradients, losses = jax.lax.scan(add, nothing, batch)
        return _applied(state, gradients, losses, batch, weight, optimizer)

    return jax.jit(run, donate_argnums=0)


def make_evaluation(split: SplitModel, config: LossConfig, *, quantization_aware: bool = False) -> Callable[..., Any]:
    """The compiled evaluation: (parameters, frozen ones, batch [B, T]) → sum of losses by weight, sum of weights."""

    def run(parameters: Parameters, frozen: Mapping[str, Any], batch: Batch) -> tuple[jax.Array, jax.Array]:
        if quantization_aware:
            parameters = {
                name: straight_through(value) if is_expert_matrix(name) else value for name, value in parameters.items()
            }
        model = split.merge(parameters, frozen)
        found = batch_loss(model, batch, config, total_weight=jnp.float32(1))
        return found.cross_entropy, jnp.asarray(batch.weights).sum()

    return jax.jit(run)


def _applied(
    state: TrainState,
    gradients: Parameters,
    losses: BatchLoss,
    batch: Batch,
    weight: jax.Array,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, StepReport]:
    """The next state, if all is finite, and the report."""
    squares = {name: jnp.square(gradient).sum() for name, gradient in gradients.items()}
    groups: dict[str, jax.Array] = {}
    for name, square in squares.items():
        group = group_of(name)
        groups[group] = groups[group] + square if group in groups else square
    norm = jnp.sqrt(sum(squares.values()))
    total = losses.total.sum()
    is_fine = jnp.isfinite(total) & jnp.isfinite(norm)
    wide = {name: value.astype(jnp.float32) for name, value in state.parameters.items()}
    updates, moments = optimizer.update(gradients, state.optimizer, wide)
    updated = {name: (wide[name] + updates[name]).astype(value.dtype) for name, value in state.parameters.items()}

    def keep(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(is_fine, new, old)

    parameters = jax.tree.map(keep, updated, state.parameters)
    following = TrainState(
        step=state.step + 1,
        skipped=state.skipped + ~is_fine,
        parameters=parameters,
        optimizer=jax.tree.map(keep, moments, state.optimizer),
    )
    report = StepReport(
        loss=losses.cross_entropy.sum() / weight,
        total_loss=total,
        load_balance=losses.load_balance.mean(),
        z=losses.z.mean(),
        expert_load=losses.expert_load.mean(axis=0),
        tokens=(jnp.asarray(batch.segments) > 0).sum(),
        targets=(jnp.asarray(batch.weights) > 0).sum(),
        grad_norm=norm,
        grad_norms={group: jnp.sqrt(square) for group, square in groups.items()},
        is_applied=is_fine,
        is_finite={name: _by_layer(name, jnp.isfinite(value)).all(axis=-1) for name, value in gradients.items()},
        moved={
            name: _by_layer(name, parameters[name] != value).any(axis=-1) for name, value in state.parameters.items()
        },
        has_gradient={name: _by_layer(name, value != 0).any(axis=-1) for name, value in gradients.items()},
    )
    return following, report


def _by_layer(name: str, array: Float[Array, "..."]) -> Float[Array, "rows rest"]:
    """An entry a layer of a stack, or one."""
    is_stacked = any(part in ("even", "odd") for part in name.split("."))
    return array.reshape(array.shape[0] if is_stacked else 1, -1)
