"""A model taken apart: what is trained and what is not, as flat dicts, and put together again.

The state of a run holds arrays only. Their names are the paths of the NNX state joined by dots, which
are the canonical names, but that a scanned model's have `every` in place of a layer's number.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gptoss_model import GptOss, LoraParam, PackedParam
from jax.sharding import NamedSharding, Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gptoss_train.errors import ConfigError

__all__ = [
    "Parameters",
    "SplitModel",
    "by_layer",
    "canonical_name",
    "false_names",
    "group_of",
    "is_decayed",
    "is_expert_matrix",
    "is_stacked",
    "layers_of",
    "split_model",
    "trained_in_full",
    "trained_with_lora",
]

type Parameters = dict[str, jax.Array]

EVERY_LAYER = "every"
EXPERT_MATRICES = ("experts.gate_up_proj", "experts.down_proj")


@dataclasses.dataclass(frozen=True)
class SplitModel:
    """The structure of a model, without its arrays.

    Attributes:
        graph: NNX's graph.
        variables: Name → the variable, its value left out.
        trained: Names of what is trained.
    """

    graph: Any
    variables: Mapping[str, nnx.Variable[Any]]
    trained: tuple[str, ...]

    def merge(self, trained: Parameters, frozen: Mapping[str, Any]) -> GptOss:
        """The model with these values."""
        values = {**frozen, **trained}
        state = [(_path(name), variable.replace(values[name])) for name, variable in self.variables.items()]
        model: GptOss = nnx.merge(self.graph, nnx.from_flat_state(state))
        return model

    def sharding(self, name: str, mesh: jax.sharding.Mesh) -> Sharding:
        """How a parameter is split over a mesh."""
        return NamedSharding(mesh, self.variables[name].get_metadata("partition"))


def split_model(
    model: GptOss, is_trained: Callable[[str, nnx.Variable[Any]], bool], *, weight_dtype: DTypeLike
) -> tuple[SplitModel, Parameters, dict[str, Any]]:
    """Takes a model apart.

    Args:
        model: The model; its arrays are taken over.
        is_trained: Whether a parameter of that name is trained.
        weight_dtype: Of what is trained, but for the scales of norms, which are f32.

    Returns:
        The structure, what is trained, and the rest.

    Raises:
        ConfigError: nothing is trained, or a packed parameter would be.
    """
    graph, state = nnx.split(model)
    trained: Parameters = {}
    frozen: dict[str, Any] = {}
    variables = {}
    for path, variable in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        value = variable.get_value()
        variables[name] = variable.replace(None)
        if not is_trained(name, variable):
            frozen[name] = value
            continue
        if isinstance(variable, PackedParam):
            raise ConfigError("a matrix that is packed as MXFP4 cannot be trained", where=name)
        dtype = jnp.float32 if _is_norm(name) else weight_dtype
        trained[name] = value.astype(dtype)
    if not trained:
        raise ConfigError("nothing is left to train", fix="Freeze less, or give LoRA a target.")
    return SplitModel(graph, variables, tuple(trained)), trained, frozen


def trained_in_full(frozen: Collection[str]) -> Callable[[str, nnx.Variable[Any]], bool]:
    """Selects every parameter but those whose canonical names match a pattern."""

    def selects(name: str, variable: nnx.Variable[Any]) -> bool:
        rows = range(layers_of(name, variable.get_value()))
        hits = [any(fnmatch.fnmatchcase(canonical_name(name, row), one) for one in frozen) for row in rows]
        if any(hits) and not all(hits):
            raise ConfigError(
                "some layers of a stack are frozen and some are not", where=name, fix="Set run.scan_layers=false."
            )
        return not any(hits)

    return selects


def trained_with_lora(*, router: bool, sinks: bool) -> Callable[[str, nnx.Variable[Any]], bool]:
    """Selects the factors of LoRA, and if wanted the routers and sinks."""

    def selects(name: str, variable: nnx.Variable[Any]) -> bool:
        is_chosen = (router and ".router." in name) or (sinks and name.endswith(".sinks"))
        return isinstance(variable, LoraParam) or is_chosen

    return selects


def canonical_name(name: str, row: int) -> str:
    """The name of one layer's entry of a stack; names of what is no stack are canonical."""
    return ".".join(str(row) if part == EVERY_LAYER else part for part in name.split("."))


def false_names(flags: Mapping[str, np.ndarray]) -> list[str]:
    """Canonical names of the parameters whose flags, an entry a layer of a stack, are false."""
    return [canonical_name(name, int(row)) for name, rows in flags.items() for row in np.flatnonzero(~rows)]


def is_expert_matrix(name: str) -> bool:
    """Whether MXFP4 is meant for it."""
    return name.endswith(EXPERT_MATRICES)


def is_decayed(name: str) -> bool:
    """Whether weight decay is meant for it: matrices are, norms, biases and sinks are not."""
    return not (_is_norm(name) or name.endswith(("bias", "sinks")))


def is_stacked(name: str) -> bool:
    """Whether it is a stack of layers: its first axis is the layer."""
    return EVERY_LAYER in name.split(".")


def by_layer(name: str, array: Float[Array, "..."]) -> Float[Array, "layers rest"]:
    """An entry a layer of a stack, or one."""
    return array.reshape(array.shape[0] if is_stacked(name) else 1, -1)


def layers_of(name: str, value: Any) -> int:
    """How many layers' parameters it holds: a stack as many as it has, packed or not; any other one."""
    return int(jax.tree.leaves(value)[0].shape[0]) if is_stacked(name) else 1


def group_of(name: str) -> str:
    """What a parameter belongs to, for norms of gradients by group."""
    if name.endswith((".a", ".b")):
        return "lora"
    for group, marks in (
        ("embedding", ("embed_tokens",)),
        ("unembedding", ("lm_head",)),
        ("norms", ("norm.weight",)),
        ("sinks", (".sinks",)),
        ("attention", (".self_attn.",)),
        ("router", (".router.",)),
        ("experts", (".experts.",)),
    ):
        if any(mark in name for mark in marks):
            return group
    return "other"


def _is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))
