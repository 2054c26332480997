"""The step: one compiled function from a state and a batch to the next state.

A batch of A parts is gone through one part after the other; gradients are added up in f32, so that
A changes nothing but memory. The loss is the mean over all targets of the whole batch by their
weights, however they are spread over parts and rows; the routers' losses are means of the parts' by
their real tokens.
A step whose loss or gradient is no number leaves parameters and moments as they were.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from gptoss_model import GptOss
from gptoss_weights import layer_probe

from gptoss_train.batch import Batch
from gptoss_train.by_rows import by_rows
from gptoss_train.config import LossConfig
from gptoss_train.gradient_squares import GradientSquares
from gptoss_train.loss import cross_entropy, router_losses
from gptoss_train.memory import give_memory_back, uncollected
from gptoss_train.parameters import Parameters, SplitModel, by_layer, group_of, is_expert_matrix
from gptoss_train.quantization import straight_through
from gptoss_train.state import TrainState

__all__ = ["REMAT_POLICIES", "BatchLoss", "StepReport", "batch_loss", "compiled_for", "make_evaluation", "make_step"]

REMAT_POLICIES: Mapping[str, Callable[..., bool] | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_with_no_batch_dims": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


# On a CPU most of a short run is compiling. The step's products are library calls, which LLVM does not touch; at its
# highest level it takes a sixth longer, and the step is no faster.
CPU_COMPILER_OPTIONS: Mapping[str, int] = {"xla_backend_optimization_level": 1}
SMALLEST_WEIGHT = 1e-30  # what the loss of a step with nothing to learn is divided by


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The losses of rows.

    Attributes:
        total: What is minimised, the rows' share of it.
        cross_entropy: Sum over targets by their weights.
        load_balance: See `RouterLosses`; the rows' share of it, as in what follows.
        z: See there.
        expert_load: See there, [L, E].
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
        squares: Of the gradients.
        is_applied: Whether the parameters have changed.
        moved: For each parameter whether it has changed; only of a step that is audited.
        has_gradient: For each whether its gradient is anywhere not zero, an entry a layer of a stack; likewise.
    """

    loss: jax.Array
    total_loss: jax.Array
    load_balance: jax.Array
    z: jax.Array
    expert_load: jax.Array
    tokens: jax.Array
    targets: jax.Array
    grad_norm: jax.Array
    squares: GradientSquares
    is_applied: jax.Array
    moved: dict[str, jax.Array]
    has_gradient: dict[str, jax.Array]

    @property
    def grad_norms(self) -> dict[str, float]:
        """Of each group of parameters."""
        sums: dict[str, float] = {}
        for name, found in self.squares.sums().items():
            sums[group_of(name)] = sums.get(group_of(name), 0.0) + float(found.sum())
        return {group: math.sqrt(total) for group, total in sums.items()}


def batch_loss(
    model: GptOss,
    batch: Batch,
    config: LossConfig,
    *,
    total_weight: jax.Array,
    total_tokens: jax.Array | None = None,
    remat: str = "none",
) -> BatchLoss:
    """The losses of some rows [B, T].

    Args:
        model: The model.
        batch: The rows.
        config: What is minimised.
        total_weight: What the cross-entropy is divided by: the weights of all rows of the step.
        total_tokens: How many real tokens those have; None: these rows are all.
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
    logits = jnp.stack([probes[name] for name in layers])
    if not (config.load_balance_weight or config.z_weight):
        logits = jax.lax.stop_gradient(logits)  # reported, not learnt
    routers = router_losses(logits, is_real, experts_per_token=model.config.experts_per_token)
    share = 1 if total_tokens is None else is_real.sum() / jnp.maximum(total_tokens, 1)
    load_balance, z, expert_load = (value * share for value in routers)
    return BatchLoss(
        total=summed / total_weight + config.load_balance_weight * load_balance + config.z_weight * z,
        cross_entropy=summed,
        load_balance=load_balance,
        z=z,
        expert_load=expert_load,
    )


type Step = Callable[[TrainState, Mapping[str, Any], Batch], tuple[TrainState, StepReport]]


def make_step(
    split: SplitModel,
    optimizer: optax.GradientTransformation,
    config: LossConfig,
    *,
    clip_norm: float | None = None,
    remat: str = "none",
    quantization_aware: bool = False,
    audited: bool = False,
    number_by_number: bool = False,
) -> Step:
    """The compiled step: (state, frozen parameters, batch [A, B, T]) → (next state, report).

    The memory of the state that is given is used for the next one.

    Args:
        split: The model taken apart.
        optimizer: Of `make_optimizer`.
        config: What is minimised.
        clip_norm: The norm that all gradients together are cut to; None cuts nothing.
        remat: One of `REMAT_POLICIES`.
        quantization_aware: Whether experts are rounded to MXFP4 in the forward pass.
        audited: Whether the report says which parameters moved.
        number_by_number: Whether parameters may be changed `by_rows`.
    """

    def loss(
        parameters: Parameters, frozen: Mapping[str, Any], part: Batch, weight: jax.Array, tokens: jax.Array | None
    ) -> tuple[jax.Array, BatchLoss]:
        if quantization_aware:
            parameters = {
                name: straight_through(value) if is_expert_matrix(name) else value for name, value in parameters.items()
            }
        model = split.merge(parameters, frozen)
        found = batch_loss(model, part, config, total_weight=weight, total_tokens=tokens, remat=remat)
        return found.total, found

    def run(state: TrainState, frozen: Mapping[str, Any], batch: Batch) -> tuple[TrainState, StepReport]:
        parts = batch.tokens.shape[0]
        weight = jnp.maximum(jnp.asarray(batch.weights).sum(), SMALLEST_WEIGHT)
        tokens = (jnp.asarray(batch.segments) > 0).sum() if parts > 1 else None
        slope = jax.grad(loss, has_aux=True)

        def add(total: Parameters, part: Batch) -> tuple[Parameters, BatchLoss]:
            gradients, found = slope(state.parameters, frozen, part, weight, tokens)
            return jax.tree.map(lambda sums, more: sums + more.astype(jnp.float32), total, gradients), found

        nothing = {name: jnp.zeros(value.shape, jnp.float32) for name, value in state.parameters.items()}
        if parts == 1:
            gradients, found = add(nothing, jax.tree.map(lambda array: array[0], batch))
            losses = jax.tree.map(lambda leaf: leaf[None], found)
        else:
            gradients, losses = jax.lax.scan(add, nothing, batch)
        return _applied(
            state,
            gradients,
            losses,
            batch,
            weight,
            optimizer,
            clip_norm=clip_norm,
            audited=audited,
            number_by_number=number_by_number,
        )

    options = dict(CPU_COMPILER_OPTIONS) if jax.default_backend() == "cpu" else None
    return jax.jit(run, donate_argnums=0, compiler_options=options)


def compiled_for(step: Step, state: TrainState, frozen: Mapping[str, Any], batch: Batch) -> Step:
    """The step compiled for arrays like these, and for no others; what compiling needed goes back to the system."""
    if not isinstance(step, jax.stages.Wrapped):
        return step
    with uncollected():
        lowered = step.lower(state, frozen, batch)
    compiled: Step = lowered.compile()
    give_memory_back()
    return compiled


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
    *,
    clip_norm: float | None,
    audited: bool,
    number_by_number: bool,
) -> tuple[TrainState, StepReport]:
    """The next state, if all is finite, and the report."""
    squares = GradientSquares.of(gradients)
    norm = squares.norm()
    total = losses.total.sum()
    is_fine = jnp.isfinite(total) & jnp.isfinite(norm)
    # As torch's clip_grad_norm_ and optax do it: nothing grows.
    factor = jnp.float32(1) if clip_norm is None else jnp.where(norm > clip_norm, clip_norm / norm, 1)

    def change(
        gradients: Parameters, parameters: Parameters, moments: optax.OptState
    ) -> tuple[Parameters, optax.OptState]:
        clipped = {name: gradient * factor for name, gradient in gradients.items()}
        wide = {name: value.astype(jnp.float32) for name, value in parameters.items()}
        updates, moments = optimizer.update(clipped, moments, wide)
        return {name: (wide[name] + updates[name]).astype(old.dtype) for name, old in parameters.items()}, moments

    # A branch, not `where`: XLA would keep a copy of every moment to choose from.
    parameters, moments = jax.lax.cond(
        is_fine,
        by_rows(change) if number_by_number else change,
        lambda _, parameters, moments: (parameters, moments),
        gradients,
        state.parameters,
        state.optimizer,
    )
    following = TrainState(
        step=state.step + 1, skipped=state.skipped + ~is_fine, parameters=parameters, optimizer=moments
    )

    def is_any(name: str, flags: jax.Array) -> jax.Array:
        return by_layer(name, flags).any(axis=-1)

    watched = state.parameters if audited else {}
    report = StepReport(
        loss=losses.cross_entropy.sum() / weight,
        total_loss=total,
        load_balance=losses.load_balance.sum(),
        z=losses.z.sum(),
        expert_load=losses.expert_load.sum(axis=0),
        tokens=(jnp.asarray(batch.segments) > 0).sum(),
        targets=(jnp.asarray(batch.weights) > 0).sum(),
        grad_norm=norm,
        squares=squares,
        is_applied=is_fine,
        moved={name: is_any(name, parameters[name] != value) for name, value in watched.items()},
        has_gradient={name: is_any(name, gradients[name] != 0) for name in watched},
    )
    return following, report
