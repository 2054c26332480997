"""Parameters: how a model is built from a source that answers to canonical names.

Building a model is loading it: every module asks the source for its parameters, and what comes
back, a device array, a packed array, an abstract value under `jax.eval_shape`, is what the module
holds. Attribute paths follow Hugging Face's names, so the path of a parameter in the NNX state,
joined by dots, is its canonical name.

With `scan_layers` one parameter holds a tensor of every second layer, stacked on a leading axis L:
`model.layers.even.…` those of layers 0, 2, 4, …, `model.layers.odd.…` those of 1, 3, 5, …; with
`one_stack` that of every layer, `model.layers.every.…`. The canonical names stay what they are;
`canonical_names` says where in which stack each stands.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import TensorSpec

from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.sharding.partitioning import Partitioning

__all__ = [
    "LoraParam",
    "PackedParam",
    "ParameterScope",
    "ParameterSource",
    "ParameterSpec",
    "ParameterView",
    "canonical_names",
    "parameter_dtype",
    "unpack_value",
]

LAYER_PAIR = ("even", "odd")  # path elements of the two stacks, by the number of the layer modulo 2
LAYER_STACK = ("every",)  # of the one stack


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """What a module asks its source for: a tensor of the schema, or a stack of one tensor of several layers.

    Attributes:
        tensors: The tensors that the parameter holds: one, or one a layer.
        is_stacked: Whether they stand one behind the other on a leading axis L, which may have length 1.
    """

    tensors: tuple[TensorSpec, ...]
    is_stacked: bool = False

    @property
    def name(self) -> str:
        """Canonical name; of a stack that of its first tensor and how many more there are."""
        more = f" (and {len(self.tensors) - 1} more layers)" if self.is_stacked else ""
        return self.tensors[0].name + more

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis letters (`gptoss_weights.schema`), after L in a stack."""
        return ("L", *self.tensors[0].axes) if self.is_stacked else self.tensors[0].axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of each axis."""
        return (len(self.tensors), *self.tensors[0].shape) if self.is_stacked else self.tensors[0].shape

    @property
    def is_expert_matrix(self) -> bool:
        """Whether it is stored as MXFP4."""
        return self.tensors[0].is_expert_matrix

    @property
    def is_norm(self) -> bool:
        """Whether it is the scale of an RMSNorm."""
        return self.tensors[0].name.endswith(("layernorm.weight", "model.norm.weight"))


type ParameterSource = Callable[[ParameterSpec], jax.Array | Mxfp4Array]


class PackedParam(nnx.Variable[Mxfp4Array]):
    """An MXFP4 parameter. Not an `nnx.Param`: its bytes have no gradient, so nothing trains it by mistake."""


class LoraParam(nnx.Param[jax.Array]):
    """A factor of a low-rank update: of a parameter, but itself none of the schema's."""


class ParameterScope:
    """The names under a prefix, or the same names of several layers, and the source to ask for them.

    Args:
        specs: Every parameter of the model by canonical name.
        source: Gives the value of a parameter.
        prefixes: The names begin with them; more than one, or `is_stacked`, asks for stacks.
        is_stacked: Whether parameters have a leading axis with one entry a prefix.
        partitioning: How parameters are split over a mesh; each then knows its `partition`.
    """

    def __init__(
        self,
        specs: Mapping[str, TensorSpec],
        source: ParameterSource,
        prefixes: tuple[str, ...] = ("",),
        *,
        is_stacked: bool = False,
        partitioning: Partitioning | None = None,
    ) -> None:
        self._specs, self._source, self._prefixes, self._is_stacked = specs, source, prefixes, is_stacked
        self._partitioning = partitioning

    def __truediv__(self, name: object) -> "ParameterScope":
        prefixes = tuple(f"{prefix}{name}." for prefix in self._prefixes)
        return self._within(prefixes, is_stacked=self._is_stacked)

    def stack(self, names: Iterable[object]) -> "ParameterScope":
        """The scope of several names at once, whose parameters are stacked."""
        prefixes = tuple(f"{prefix}{name}." for prefix in self._prefixes for name in names)
        return self._within(prefixes, is_stacked=True)

    def _within(self, prefixes: tuple[str, ...], *, is_stacked: bool) -> "ParameterScope":
        return ParameterScope(
            self._specs, self._source, prefixes, is_stacked=is_stacked, partitioning=self._partitioning
        )

    def __call__(self, name: str) -> nnx.Param[jax.Array] | PackedParam:
        """The parameter of that name, as the source gives it.

        Raises:
            ValueError: the source gives another shape than the schema states.
        """
        spec = ParameterSpec(tuple(self._specs[prefix + name] for prefix in self._prefixes), self._is_stacked)
        value = self._source(spec)
        if value.shape != spec.shape:
            raise ValueError(f"{spec.name} must have the shape {spec.shape}, not {value.shape}")
        metadata: dict[str, Any] = {}
        if self._partitioning is not None:
            metadata["partition"] = self._partitioning(spec.tensors[0], is_stacked=spec.is_stacked)
        return PackedParam(value, **metadata) if isinstance(value, Mxfp4Array) else nnx.Param(value, **metadata)


def unpack_value(parameter: nnx.Param[jax.Array] | PackedParam) -> jax.Array | Mxfp4Array:
    """What a parameter holds, array or packed array."""
    value: jax.Array | Mxfp4Array = parameter.get_value()
    return value


def parameter_dtype(spec: ParameterSpec, dtype: jnp.dtype) -> jnp.dtype:
    """f32 for the scales of the norms, as in the official code; the dtype of the parameters for the rest."""
    return jnp.dtype(jnp.float32) if spec.is_norm else jnp.dtype(dtype)


@dataclasses.dataclass(frozen=True)
class ParameterView:
    """Where a tensor of the schema stands in a model.

    Attributes:
        variable: The parameter that holds it.
        row: Its entry on the leading axis of a stack; None where the parameter is the tensor itself.
    """

    variable: nnx.Variable[jax.Array | Mxfp4Array]
    row: int | None = None

    @property
    def is_packed(self) -> bool:
        """Whether it is held as MXFP4."""
        return isinstance(self.variable, PackedParam)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        shape: tuple[int, ...] = self.variable.get_value().shape
        return shape if self.row is None else shape[1:]

    @property
    def value(self) -> jax.Array | Mxfp4Array:
        """The tensor; out of a stack it is copied."""
        value = self.variable.get_value()
        return value if self.row is None else value[self.row]


def canonical_names(tree: nnx.Module | nnx.State[Any, Any]) -> dict[str, ParameterView]:
    """Every parameter of a model, or of a state with its structure (gradients, moments), by canonical name.

    Factors of LoRA, which the schema does not know, are left out.
    """
    views = {}
    for path, variable in nnx.to_flat_state(nnx.state(tree) if isinstance(tree, nnx.Module) else tree):
        if isinstance(variable, LoraParam):
            continue
        stacked = [position for position, part in enumerate(path) if part in (*LAYER_PAIR, *LAYER_STACK)]
        if not stacked:
            views[".".join(map(str, path))] = ParameterView(variable)
            continue
        [at] = stacked
        for row in range(variable.get_value().shape[0]):
            stacks = LAYER_PAIR if path[at] in LAYER_PAIR else LAYER_STACK
            layer = len(stacks) * row + stacks.index(path[at])
            views[".".join(map(str, (*path[:at], layer, *path[at + 1 :])))] = ParameterView(variable, row)
    return views
