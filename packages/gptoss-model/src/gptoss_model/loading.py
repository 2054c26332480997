"""Loading: from a lazy checkpoint to a model, tensor by tensor.

Each tensor goes from the memory-mapped file to its device buffer once. The host buffer of a
parameter, the whole stack with `scan_layers`, is allocated once and filled some rows at a time,
which are cast or decoded on the way; on a CPU that buffer is the device's (`host_parameters`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gptoss_weights import Checkpoint, CheckpointError, GptOssConfig, Mxfp4Tensor
from jax.sharding import Mesh
from jax.typing import DTypeLike

from gptoss_model.host_parameters import read_parameter
from gptoss_model.model import GptOss
from gptoss_model.ops.attention import check_attention_strategy
from gptoss_model.ops.moe import check_moe_strategy
from gptoss_model.ops.mxfp4 import Mxfp4Array
from gptoss_model.parameters import LAYER_PAIR, ParameterSpec, parameter_dtype
from gptoss_model.sharding.arrays import read_sharded
from gptoss_model.sharding.placement import Placement

__all__ = ["ExpertForm", "abstract_model", "load_model"]

type ExpertForm = Literal["stored", "mxfp4", "decoded"]

DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    param_dtype: DTypeLike | None = None,
    experts: ExpertForm = "stored",
    moe: str = "auto",
    attention: str = "auto",
    capacity_factor: float | None = None,
    scan_layers: bool | None = False,
    one_stack: bool = False,
    mesh: Mesh | None = None,
) -> GptOss:
    """The model that a checkpoint describes, on the default device or on a mesh.

    Args:
        checkpoint: Any open checkpoint.
        dtype: bfloat16 or float32, of the activations.
        param_dtype: bfloat16 or float32, of every array but the scales of the norms, which are f32;
            None: `dtype`. Narrower parameters than activations lose what the checkpoint has beyond
            bfloat16 and nothing else; wider ones are rounded to `dtype` wherever they are used.
        experts: `mxfp4` keeps the expert matrices packed, `decoded` makes arrays of them (four
            times the memory in bf16), `stored` leaves them as the checkpoint has them.
        moe: Name of a MoE strategy, or `auto`.
        attention: Name of an attention strategy, or `auto`.
        capacity_factor: Refused, unless None: no strategy drops a token.
        scan_layers: Whether the layers are a compiled loop over pairs, with stacked parameters; None:
            wherever they can be, which compiles sooner.
        one_stack: With `scan_layers`, whether the loop goes over single layers: half as much to compile, and no cache.
        mesh: Of `make_mesh`; every device gets its part of the parameters, and every process reads
            only what its devices get. None: the default device.

    Raises:
        CheckpointError: `experts` is `mxfp4`, and the checkpoint holds arrays.
        ValueError: an argument has a value that is not allowed, or the mesh does not divide the model.
        MissingDependencyError: this machine cannot run a strategy.
    """
    check_moe_strategy(moe, capacity_factor=capacity_factor)  # before minutes of reading
    check_attention_strategy(attention)
    dtype, stored = _check_dtypes(dtype, param_dtype)
    if experts not in ("stored", "mxfp4", "decoded"):
        raise ValueError(f"experts is 'stored', 'mxfp4' or 'decoded', not {experts!r}")
    source = CheckpointSource(checkpoint=checkpoint, dtype=stored, experts=experts)
    if mesh is not None:
        matrices = [ParameterSpec((spec,)) for spec in checkpoint.specs.values() if spec.is_expert_matrix]
        form: Literal["mxfp4", "decoded"] = "mxfp4" if any(map(source.packs, matrices)) else "decoded"
        source = dataclasses.replace(source, placement=Placement.of(checkpoint.config, mesh, experts=form))
    return GptOss(
        checkpoint.config,
        source,
        dtype=dtype,
        moe=moe,
        attention=attention,
        scan_layers=source.can_scan(one_stack=one_stack) if scan_layers is None else scan_layers,
        one_stack=one_stack,
        placement=source.placement,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSource:
    """Gives every parameter of a model as a checkpoint has it.

    Attributes:
        checkpoint: Where to read.
        dtype: Of arrays, but for the scales of the norms.
        experts: As in `load_model`.
        placement: Where to put it; None: on the default device.
    """

    checkpoint: Checkpoint
    dtype: jnp.dtype
    experts: ExpertForm
    placement: Placement | None = None

    def __call__(self, spec: ParameterSpec) -> jax.Array | Mxfp4Array:
        """The parameter.

        Raises:
            CheckpointError: the checkpoint does not hold it in the form that is wanted.
        """
        packed, dtype = self.packs(spec), parameter_dtype(spec, self.dtype)

        def read(index: Sequence[slice]) -> np.ndarray | Mxfp4Tensor:
            return read_parameter(self.checkpoint, spec, dtype=dtype, packed=packed, index=index)

        if self.placement is not None:
            partition = self.placement.partitioning(spec.tensors[0], is_stacked=spec.is_stacked)
            return read_sharded(spec.shape, self.placement.mesh, partition, read, packed=packed)
        host = read(())
        if isinstance(host, Mxfp4Tensor):
            return Mxfp4Array(jax.device_put(host.blocks), jax.device_put(host.scales))
        array: jax.Array = jax.device_put(host)
        return array

    def can_scan(self, *, one_stack: bool = False) -> bool:
        """Whether the layers come in pairs, or need not, and are alike in what form their experts are kept."""
        names = [name for name, spec in self.checkpoint.specs.items() if spec.is_expert_matrix]
        forms = {self.experts == "decoded" or self.checkpoint.array_dtype(name) is not None for name in names}
        comes_in_pairs = self.checkpoint.config.num_hidden_layers % len(LAYER_PAIR) == 0
        return (one_stack or comes_in_pairs) and len(forms) == 1

    def packs(self, spec: ParameterSpec) -> bool:
        """Whether the parameter is kept as MXFP4.

        Raises:
            CheckpointError: as in `__call__`.
        """
        if not spec.is_expert_matrix or self.experts == "decoded":
            return False
        arrays = {tensor.name: self.checkpoint.array_dtype(tensor.name) for tensor in spec.tensors}
        unpacked = [name for name, dtype in arrays.items() if dtype is not None]
        if unpacked and self.experts == "mxfp4":
            raise CheckpointError(
                "the checkpoint does not hold its experts as MXFP4",
                where=unpacked[0],
                found=arrays[unpacked[0]],
                fix="Load it with experts='stored' or experts='decoded'.",
            )
        if 0 < len(unpacked) < len(arrays):
            raise CheckpointError(
                "the layers of one stack hold their experts in different forms",
                where=unpacked[0],
                expected="MXFP4 as in the others",
                found=arrays[unpacked[0]],
                fix="Load it with experts='decoded', or without scan_layers (--no-scan-layers).",
            )
        return not unpacked


def abstract_model(
    config: GptOssConfig,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    param_dtype: DTypeLike | None = None,
    experts: Literal["mxfp4", "decoded"] = "mxfp4",
    moe: str = "auto",
    attention: str = "auto",
    scan_layers: bool = False,
    mesh: Mesh | None = None,
) -> GptOss:
    """The model with shapes and dtypes in place of values: for memory arithmetic, sharding and restoring.

    Args:
        config: The geometry.
        dtype: As in `load_model`.
        param_dtype: As in `load_model`.
        experts: `mxfp4` for packed expert matrices, `decoded` for arrays.
        moe: As in `load_model`.
        attention: As in `load_model`.
        scan_layers: As in `load_model`.
        mesh: As in `load_model`; every shape then has the sharding of its array.

    Raises:
        ValueError: an argument has a value that is not allowed, or the mesh does not divide the model.
    """
    dtype, stored = _check_dtypes(dtype, param_dtype)
    if experts not in ("mxfp4", "decoded"):
        raise ValueError(f"experts is 'mxfp4' or 'decoded', not {experts!r}")

    placement = None if mesh is None else Placement.of(config, mesh, experts=experts)

    def zeros(spec: ParameterSpec) -> jax.Array | Mxfp4Array:
        if spec.is_expert_matrix and experts == "mxfp4":
            return Mxfp4Array.zeros(spec.shape)
        return jnp.zeros(spec.shape, parameter_dtype(spec, stored))

    def make() -> GptOss:
        return GptOss(
            config, zeros, dtype=dtype, moe=moe, attention=attention, scan_layers=scan_layers, placement=placement
        )

    model: GptOss = nnx.eval_shape(make)
    return model if placement is None else placement.with_shardings(model)


def _check_dtypes(activations: DTypeLike, parameters: DTypeLike | None) -> tuple[jnp.dtype, jnp.dtype]:
    """Both; the parameters have the dtype of the activations unless another is given."""
    checked = jnp.dtype(activations), jnp.dtype(activations if parameters is None else parameters)
    for what, dtype in zip(("activations", "parameters"), checked, strict=True):
        if dtype not in DTYPES:
            raise ValueError(f"the {what} are bfloat16 or float32, not {dtype.name}")
    return checked
