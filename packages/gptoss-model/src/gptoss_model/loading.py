"""Loading: from a lazy checkpoint to a model, tensor by tensor.

Each tensor goes from the memory-mapped file to its device buffer once; only what must change its
dtype or be decoded exists on the host in between, and one tensor at a time.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gptoss_weights import Checkpoint, CheckpointError, GptOssConfig, Mxfp4Tensor, TensorSpec
from jax.typing import DTypeLike

from gptoss_model.model import GptOss
from gptoss_model.ops.moe import check_moe_strategy
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.parameters import parameter_dtype

__all__ = ["ExpertForm", "abstract_model", "load_model"]

type ExpertForm = Literal["stored", "mxfp4", "decoded"]

ACTIVATION_DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    experts: ExpertForm = "stored",
    moe: str = "auto",
    capacity_factor: float | None = None,
) -> GptOss:
    """The model that a checkpoint describes, on the default device.

    Args:
        checkpoint: Any open checkpoint.
        dtype: bfloat16 or float32, of the activations and of every array but the scales of the
            norms, which are f32.
        experts: `mxfp4` keeps the expert matrices packed, `decoded` makes arrays of them (four
            times the memory in bf16), `stored` leaves them as the checkpoint has them.
        moe: Name of a MoE strategy, or `auto`.
        capacity_factor: Refused, unless None: no strategy drops a token.

    Raises:
        CheckpointError: `experts` is `mxfp4`, and the checkpoint holds arrays.
        ValueError: an argument has a value that is not allowed.
        MissingDependencyError: this machine cannot run the strategy.
    """
    check_moe_strategy(moe, capacity_factor=capacity_factor)  # before minutes of reading
    activations = _check_dtype(dtype)
    if experts not in ("stored", "mxfp4", "decoded"):
        raise ValueError(f"experts is 'stored', 'mxfp4' or 'decoded', not {experts!r}")

    def read(spec: TensorSpec) -> jax.Array | Mxfp4Array:
        value = checkpoint.read(spec.name)
        if isinstance(value, Mxfp4Tensor):
            if experts != "decoded":
                return Mxfp4Array(jax.device_put(value.blocks), jax.device_put(value.scales))
            value = value.decode(activations)
        elif spec.is_expert_matrix and experts == "mxfp4":
            raise CheckpointError(
                "the checkpoint does not hold its experts as MXFP4",
                where=spec.name,
                found=value.dtype.name,
                fix="Load it with experts='stored' or experts='decoded'.",
            )
        array: jax.Array = jax.device_put(np.asarray(value).astype(parameter_dtype(spec, activations), copy=False))
        return array

    return GptOss(checkpoint.config, read, moe=moe)


def abstract_model(
    config: GptOssConfig,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    experts: Literal["mxfp4", "decoded"] = "mxfp4",
    moe: str = "auto",
) -> GptOss:
    """The model with shapes and dtypes in place of values: for memory arithmetic, sharding and restoring.

    Args:
        config: The geometry.
        dtype: As in `load_model`.
        experts: `mxfp4` for packed expert matrices, `decoded` for arrays.
        moe: As in `load_model`.

    Raises:
        ValueError: an argument has a value that is not allowed.
    """
    activations = _check_dtype(dtype)
    if experts not in ("mxfp4", "decoded"):
        raise ValueError(f"experts is 'mxfp4' or 'decoded', not {experts!r}")

    def zeros(spec: TensorSpec) -> jax.Array | Mxfp4Array:
        if spec.is_expert_matrix and experts == "mxfp4":
            return Mxfp4Array.zeros(spec.shape)
        return jnp.zeros(spec.shape, parameter_dtype(spec, activations))

    model: GptOss = nnx.eval_shape(lambda: GptOss(config, zeros, moe=moe))
    return model


def _check_dtype(dtype: DTypeLike) -> jnp.dtype:
    checked = jnp.dtype(dtype)
    if checked not in ACTIVATION_DTYPES:
        raise ValueError(f"the activations are bfloat16 or float32, not {checked.name}")
    return checked
