"""The plan of a run: memory, tokens and arithmetic of a step, from shapes alone.

Counted exactly, as they lie on a device of the mesh: parameters, gradients, moments, and the largest part that
fsdp gathers. Estimated: what the backward pass keeps of each layer under the remat policy, one layer at work, and
a chunk of logits. Nothing is allocated, and the devices of the mesh need not be there.

By what an axis of the mesh divides each of these, the same count says with that axis left out.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from gptoss_model import MeshRules
from gptoss_model.sharding.rules import MESH_AXES
from gptoss_model.sharding.shards import batch_axes
from gptoss_weights import Checkpoint, GptOssConfig, Index, Mxfp4Tensor, count_active_parameters, count_parameters

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError
from gptoss_train.planned_arrays import PlannedArrays, plan_arrays
from gptoss_train.rows_on_mesh import check_rows, rows_per_device
from gptoss_train.setup import PUBLISHED, Method, check_method, open_base
from gptoss_train.sft_data import for_conversations

__all__ = ["AxisPlan", "DeviceBytes", "RunPlan", "plan_run"]

GIB = 1 << 30
F32_BYTES = 4
PASSES = 3  # forward, and twice that backward
MULTIPLY_ADD = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceBytes:
    """What a device holds.

    Attributes:
        parameter_bytes: All parameters.
        gradient_bytes: Gradients, in f32.
        moment_bytes: The optimizer's.
        gathered_bytes: What fsdp brings together at a time.
        activation_bytes: What the backward pass keeps, and works with; estimated.
        logit_bytes: A chunk of logits and the gradient of the unembedding; estimated.
    """

    parameter_bytes: int
    gradient_bytes: int
    moment_bytes: int
    gathered_bytes: int
    activation_bytes: int
    logit_bytes: int

    @property
    def device_bytes(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(DeviceBytes))

    def by_name(self) -> dict[str, int]:
        """Each, and all together, as they are named in a text."""
        return {
            "parameters": self.parameter_bytes,
            "gradients": self.gradient_bytes,
            "optimizer": self.moment_bytes,
            "gathered by fsdp": self.gathered_bytes,
            "activations (est.)": self.activation_bytes,
            "logits (est.)": self.logit_bytes,
            "together": self.device_bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {**dataclasses.asdict(self), "device_bytes": self.device_bytes}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """What an axis of the mesh divides.

    Attributes:
        size: Devices along it.
        without: What a device would hold if the mesh had one device along it.
    """

    size: int
    without: DeviceBytes

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {"size": self.size, "without": self.without.to_json()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan(DeviceBytes):
    """What a run needs; bytes on each device.

    Attributes:
        method: The command.
        mesh: The devices.
        devices: How many.
        axes: Each axis of the mesh that has more than one device, by name.
        parameters: Of the model.
        trained: How many numbers are trained.
        active: How many a token multiplies.
        checkpoint_bytes: Of a saved state, over all devices.
        rows_per_device: Rows of one part of a step on a device.
        tokens_per_step: Rows times length.
        flops_per_step: Of the products, forward and backward, without what remat does again.
    """

    method: Method
    mesh: str
    devices: int
    axes: Mapping[str, AxisPlan]
    parameters: int
    trained: int
    active: int
    checkpoint_bytes: int
    rows_per_device: int
    tokens_per_step: int
    flops_per_step: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {**super().to_json(), "axes": {name: axis.to_json() for name, axis in self.axes.items()}}

    def to_text(self) -> str:
        """As lines."""
        places = "one device" if self.devices == 1 else f"each of {self.devices} devices"
        question = ", and by what each axis divides it" if self.axes else ""
        names = "".join(f"{name:>10}" for name in self.axes)
        return "\n".join(
            [
                f"{self.method}: {self.trained:,} of {self.parameters:,} parameters trained, {self.active:,} active",
                f"{places}, mesh {self.mesh}, {self.rows_per_device} rows at a time{question}:",
                *([f"{'':<36}{names}"] if self.axes else []),
                *(
                    f"  {name:<20}{size / GIB:>10.3f} GiB{self._divisors(name)}"
                    for name, size in self.by_name().items()
                ),
                f"a step: {self.tokens_per_step:,} tokens, {self.flops_per_step:.3g} FLOPs",
                f"a checkpoint: {self.checkpoint_bytes / GIB:.3f} GiB",
            ]
        )

    def _divisors(self, name: str) -> str:
        """By how much each axis divides what the text calls so; a dash where there is nothing without the axis."""
        here = self.by_name()[name]
        without = [axis.without.by_name()[name] for axis in self.axes.values()]
        return "".join(f"{f'÷ {other / here:.2f}' if here and other else '-':>10}" for other in without)


def plan_run(config: TrainConfig, method: Method) -> RunPlan:
    """What a run needs.

    Weights that are published are planned as they are, before they are here; any others must be there.

    Raises:
        CheckpointError: there is no checkpoint for the command, or no such geometry.
        ConfigError: the mesh does not divide the model, or the command refuses the config.
    """
    if method == "sft":
        config = for_conversations(config)
    base = _base(config, method)
    geometry = base.config
    check_method(config, method, geometry)
    try:
        rules = MeshRules.parse(config.run.mesh or "data=1")
        rules = rules.resolve(rules.device_count)
        arrays = plan_arrays(config, method, base, rules)
        axes = {axis: _without(axis, config, method, base, rules) for axis in MESH_AXES if getattr(rules, axis) > 1}
    except ValueError as error:
        raise ConfigError(str(error), where="run.mesh") from None
    check_rows(config, rules)
    tokens = config.batch_size * config.sequence_length
    return RunPlan(
        **dataclasses.asdict(_device_bytes(config, arrays, geometry, rules)),
        method=method,
        mesh=str(rules),
        devices=rules.device_count,
        axes=axes,
        parameters=count_parameters(geometry),
        trained=sum(value.size for value in arrays.state.parameters.values()),
        active=count_active_parameters(geometry),
        checkpoint_bytes=arrays.saved_bytes(),
        rows_per_device=rows_per_device(config, rules),
        tokens_per_step=tokens,
        flops_per_step=_flops(config, geometry, tokens),
    )


def _without(axis: str, config: TrainConfig, method: Method, base: Checkpoint, rules: MeshRules) -> AxisPlan:
    fewer = dataclasses.replace(rules, **{axis: 1})
    arrays = plan_arrays(config, method, base, fewer)
    return AxisPlan(size=getattr(rules, axis), without=_device_bytes(config, arrays, base.config, fewer))


class _PublishedCheckpoint(Checkpoint):
    """Published weights that are not here: what they are in is known."""

    format = "published"

    def __init__(self, config: GptOssConfig) -> None:
        self.config, self.side_files = config, MappingProxyType({})

    def array_dtype(self, name: str) -> np.dtype | None:
        return None if self.specs[name].is_expert_matrix else jnp.dtype(jnp.bfloat16)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        raise NotImplementedError("a plan reads no tensor")


def _base(config: TrainConfig, method: Method) -> Checkpoint:
    """What the command starts from."""
    is_elsewhere = config.model in PUBLISHED and not Path(config.model).exists()
    if method != "pretrain" and is_elsewhere and not config.changed_geometry():
        return _PublishedCheckpoint(PUBLISHED[config.model])
    return open_base(config, method)


def _device_bytes(config: TrainConfig, arrays: PlannedArrays, geometry: GptOssConfig, rules: MeshRules) -> DeviceBytes:
    rows = rows_per_device(config, rules)
    return DeviceBytes(
        parameter_bytes=arrays.parameter_bytes(),
        gradient_bytes=arrays.trained_values() * F32_BYTES,
        moment_bytes=arrays.moment_bytes(),
        gathered_bytes=arrays.gathered_bytes(),
        activation_bytes=_activation_bytes(config, geometry, rules, rows, is_packed=arrays.is_packed),
        logit_bytes=_logit_bytes(config, geometry, rules, rows),
    )


def _activation_bytes(
    config: TrainConfig, geometry: GptOssConfig, rules: MeshRules, rows: int, *, is_packed: bool
) -> int:
    """What is kept of all layers, and what one layer works with backwards: itself and its gradients."""
    itemsize: int = jnp.dtype(config.run.dtype).itemsize
    D, q = geometry.hidden_size * itemsize, geometry.q_size // rules.tensor * itemsize
    rotated = q + 2 * geometry.kv_size // rules.tensor * itemsize
    kept_of_experts, products_of_experts = _bytes_of_experts(config, geometry, rules, itemsize, is_packed=is_packed)
    # The stream before and after attention, both normalised; queries, keys, values; what attention mixed.
    layer = 4 * D + rotated + q + kept_of_experts
    products = 2 * D + rotated + products_of_experts
    kept = {"full": D, "dots": products, "dots_with_no_batch_dims": products, "none": layer}[config.run.remat]
    return (geometry.num_hidden_layers * kept + 2 * layer) * rows * config.sequence_length


def _bytes_of_experts(
    config: TrainConfig, geometry: GptOssConfig, rules: MeshRules, itemsize: int, *, is_packed: bool
) -> tuple[int, int]:
    """What the experts' backward pass keeps of a token, and how much of it are results of products.

    The strategy `auto` is that of accelerators, which keeps the most: no device is asked.
    """
    D, F, k = geometry.hidden_size, geometry.intermediate_size // rules.tensor, geometry.experts_per_token
    parts = batch_axes(rules, config.batch_size // config.gradient_accumulation)
    group = rules.expert if "expert" in parts else 1  # whose tokens come together
    if config.run.moe == "dense":
        local = geometry.num_experts // rules.expert
        return local * group * D * F32_BYTES, local * group * (D + 2 * F) * itemsize  # the sum before each expert
    if config.run.moe == "tiled" or (config.run.moe == "auto" and is_packed):
        return k * group * (D + 2 * F) * itemsize, 0  # gate, up and results, inside a derivative of its own
    assignment = k * group * itemsize
    return assignment * (2 * D + 3 * F), assignment * (D + 2 * F)  # rows, gate, up, their product, results


def _logit_bytes(config: TrainConfig, geometry: GptOssConfig, rules: MeshRules, rows: int) -> int:
    columns = min(config.loss.vocabulary_chunk, geometry.vocab_size) // rules.tensor
    tokens = rows * config.sequence_length
    return 2 * tokens * columns * F32_BYTES + geometry.vocab_size // rules.tensor * geometry.hidden_size * F32_BYTES


def _flops(config: TrainConfig, geometry: GptOssConfig, tokens: int) -> int:
    """Of products with parameters, and of scores and values of what each query sees."""
    length, window = config.sequence_length, geometry.sliding_window
    seen_full = (length + 1) / 2
    seen_window = seen_full if length <= window else window - window * (window - 1) / (2 * length)
    layers = geometry.num_hidden_layers
    seen = (layers - layers // 2) * seen_window + layers // 2 * seen_full
    attention = 2 * MULTIPLY_ADD * geometry.q_size * seen
    matrices = count_active_parameters(geometry) - geometry.hidden_size  # the embedding's row is not multiplied
    return round(PASSES * tokens * (MULTIPLY_ADD * matrices + attention))
