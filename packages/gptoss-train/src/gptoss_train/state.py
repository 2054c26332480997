"""TrainState: everything of a run that changes, as one pytree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gptoss_train.optimizer import init_moments
from gptoss_train.parameters import Parameters, SplitModel

__all__ = ["TrainState", "first_state", "init_state", "parameter_alike"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """The state of a run, and what one step makes of another.

    Attributes:
        step: How many batches have been seen, int32.
        skipped: Of how many nothing was learnt because a number was none, int32.
        parameters: What is trained, by name.
        optimizer: Its moments and counters.
    """

    step: jax.Array
    skipped: jax.Array
    parameters: Parameters
    optimizer: optax.OptState


def init_state(
    parameters: Parameters, optimizer: optax.GradientTransformation, split: SplitModel, mesh: jax.sharding.Mesh | None
) -> TrainState:
    """The state before the first step; on a mesh moments are split as their parameters are."""

    def make(parameters: Parameters) -> TrainState:
        return first_state(parameters, optimizer)

    shapes = jax.eval_shape(make, parameters)
    if mesh is None:
        return _on_one_device(shapes, parameters)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def place(path: tuple[object, ...], leaf: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
        name = parameter_alike(path, leaf, parameters)
        return everywhere if name is None else split.sharding(name, mesh)

    shardings = jax.tree_util.tree_map_with_path(place, shapes)
    state: TrainState = jax.jit(make, out_shardings=shardings)(parameters)
    return state


def first_state(parameters: Parameters, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, wherever its arrays stand."""
    nothing = jnp.zeros((), jnp.int32)
    moments = init_moments(optimizer, parameters)
    return TrainState(step=nothing, skipped=nothing, parameters=parameters, optimizer=moments)


def parameter_alike(path: tuple[object, ...], leaf: Any, parameters: Mapping[str, Any]) -> str | None:
    """The parameter that a leaf of the state is, or is a moment of in the same shape, and so is split like; or None."""
    [name] = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)] or [None]
    return name if name is not None and leaf.shape == parameters[name].shape else None


def _on_one_device(shapes: TrainState, parameters: Parameters) -> TrainState:
    """Parameters copied one after the other, for the step gives its argument's memory away, and zeros.

    Moments and counters begin at zero whatever the optimizer, and zeros from the host are not compiled for each shape.
    All are committed to their device, as what is restored is, so that one compiled step serves both.
    """

    def put(array: jax.Array | np.ndarray) -> jax.Array:
        copy: jax.Array = jax.device_put(array, jax.devices()[0], may_alias=False)
        return copy

    nothing = dataclasses.replace(shapes, parameters={})
    state: TrainState = jax.tree.map(lambda leaf: put(np.zeros(leaf.shape, leaf.dtype)), nothing)
    return dataclasses.replace(state, parameters={name: put(value) for name, value in parameters.items()})
