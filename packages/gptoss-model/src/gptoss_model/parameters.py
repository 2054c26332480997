"""Parameters: how a model is built from a source that answers to canonical names.

Building a model is loading it: every module asks the source for its parameters by name, and what
comes back, a device array, a packed array, an abstract value under `jax.eval_shape`, is what the
module holds. Attribute paths follow Hugging Face's names, so the path of a parameter in the NNX
state, joined by dots, is its canonical name.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import TensorSpec

from gptoss_model.ops.mxfp4 import Mxfp4Array

__all__ = ["PackedParam", "ParameterScope", "ParameterSource", "canonical_names", "parameter_dtype", "unpack_value"]

type ParameterSource = Callable[[TensorSpec], jax.Array | Mxfp4Array]


class PackedParam(nnx.Variable[Mxfp4Array]):
    """An MXFP4 parameter. Not an `nnx.Param`: its bytes have no gradient, so nothing trains it by mistake."""


class ParameterScope:
    """The names under a prefix, and the source to ask for them.

    Args:
        specs: Every parameter of the model by canonical name.
        source: Gives the value of a parameter.
        prefix: The names begin with it.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], source: ParameterSource, prefix: str = "") -> None:
        self._specs, self._source, self._prefix = specs, source, prefix

    def __truediv__(self, name: object) -> "ParameterScope":
        return ParameterScope(self._specs, self._source, f"{self._prefix}{name}.")

    def __call__(self, name: str) -> nnx.Param[jax.Array] | PackedParam:
        """The parameter of that name, as the source gives it.

        Raises:
            ValueError: the source gives another shape than the schema states.
        """
        spec = self._specs[self._prefix + name]
        value = self._source(spec)
        if value.shape != spec.shape:
            raise ValueError(f"{spec.name} must have the shape {spec.shape}, not {value.shape}")
        return PackedParam(value) if isinstance(value, Mxfp4Array) else nnx.Param(value)


def unpack_value(parameter: nnx.Param[jax.Array] | PackedParam) -> jax.Array | Mxfp4Array:
    """What a parameter holds, array or packed array."""
    value: jax.Array | Mxfp4Array = parameter.get_value()
    return value


def parameter_dtype(spec: TensorSpec, dtype: jnp.dtype) -> jnp.dtype:
    """f32 for the scales of the norms, as in the official code; the dtype of the activations for the rest."""
    is_norm = spec.name.endswith(("layernorm.weight", "model.norm.weight"))
    return jnp.dtype(jnp.float32) if is_norm else jnp.dtype(dtype)


def canonical_names(module: nnx.Module) -> dict[str, nnx.Variable[object]]:
    """Every parameter of a model by its canonical name."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(module))}
