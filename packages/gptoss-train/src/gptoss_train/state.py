"""TrainState: everything of a run that changes, as one pytree."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from gptoss_train.optimizer import init_moments
from gptoss_train.parameters import Parameters, SplitModel

__all__ = ["TrainState", "init_state"]


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
        nothing = jnp.zeros((), jnp.int32)
        moments = init_moments(optimizer, parameters)
        return TrainState(step=nothing, skipped=nothing, parameters=parameters, optimizer=moments)

    if mesh is None:
        return _owned(make(parameters))
    shapes = jax.eval_shape(make, parameters)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def place(path: tuple[object, ...], leaf: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
        [name] = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)] or [None]
        is_alike = name is not None and leaf.shape == parameters[name].shape
        return split.sharding(name, mesh) if is_alike and name is not None else everywhere

    shardings = jax.tree_util.tree_map_with_path(place, shapes)
    state: TrainState = jax.jit(make, out_shardings=shardings)(parameters)
    return state


def _owned(state: TrainState) -> TrainState:
    """Copies, for the step gives its argument's memory away, made one after the other.

    They are committed to their device, as what is restored is, so that one compiled step serves both.
    """
    leaves, structure = jax.tree.flatten(state)
    del state
    for place, leaf in enumerate(leaves):
        leaves[place] = jax.device_put(leaf, jax.devices()[0], may_alias=False)
    owned: TrainState = jax.tree.unflatten(structure, leaves)
    return owned
