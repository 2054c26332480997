"""The plan of a run: memory, tokens and arithmetic of a step, from shapes alone.

Counted exactly, as they lie on a device of the mesh: parameters, gradients, moments, and the largest part that
fsdp gathers. Estimated: what the backward pass keeps of each layer under the remat policy, one layer at work, and
a chunk of logits. Nothing is allocated and no device is asked for.
"""

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from gptoss_model import EXPERT_TARGETS, LINEAR_TARGETS, DeviceMemory, MeshRules, memory_per_device
from gptoss_model.sharding.shards import batch_axes
from gptoss_weights import (
    Checkpoint,
    GptOssConfig,
    Index,
    Mxfp4Tensor,
    count_active_parameters,
    count_parameters,
    tensor_specs,
)

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError
from gptoss_train.optimizer import init_moments, make_optimizer
from gptoss_train.rows_on_mesh import check_rows, rows_per_device
from gptoss_train.setup import PUBLISHED, Method, check_method, open_base

__all__ = ["RunPlan", "plan_run"]

GIB = 1 << 30
F32_BYTES = 4
PASSES = 3  # forward, and twice that backward
MULTIPLY_ADD = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run needs; bytes on each device.

    Attributes:
        method: The command.
        mesh: The devices.
        devices: How many.
        parameters: Of the model.
        trained: How many of them are trained.
        active: How many a token multiplies.
        parameter_bytes: All parameters.
        gradient_bytes: Gradients, in f32.
        moment_bytes: The optimizer's.
        gathered_bytes: What fsdp brings together at a time.
        activation_bytes: What the backward pass keeps, and works with; estimated.
        logit_bytes: A chunk of logits and the gradient of the unembedding; estimated.
        checkpoint_bytes: Of a saved state, over all devices.
        rows_per_device: Rows of one part of a step on a device.
        tokens_per_step: Rows times length.
        flops_per_step: Of the products, forward and backward, without what remat does again.
    """

    method: Method
    mesh: str
    devices: int
    parameters: int
    trained: int
    active: int
    parameter_bytes: int
    gradient_bytes: int
    moment_bytes: int
    gathered_bytes: int
    activation_bytes: int
    logit_bytes: int
    checkpoint_bytes: int
    rows_per_device: int
    tokens_per_step: int
    flops_per_step: int

    @property
    def device_bytes(self) -> int:
        """All of a device."""
        return (
            self.parameter_bytes
            + self.gradient_bytes
            + self.moment_bytes
            + self.gathered_bytes
            + self.activation_bytes
            + self.logit_bytes
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {**dataclasses.asdict(self), "device_bytes": self.device_bytes}

    def to_text(self) -> str:
        """As lines."""
        places = "one device" if self.devices == 1 else f"each of {self.devices} devices"
        memory = {
            "parameters": self.parameter_bytes,
            "gradients": self.gradient_bytes,
            "optimizer": self.moment_bytes,
            "gathered by fsdp": self.gathered_bytes,
            "activations (est.)": self.activation_bytes,
            "logits (est.)": self.logit_bytes,
            "together": self.device_bytes,
        }
        return "\n".join(
            [
                f"{self.method}: {self.trained:,} of {self.parameters:,} parameters trained, {self.active:,} active",
                f"{places}, mesh {self.mesh}, {self.rows_per_device} rows at a time:",
                *(f"  {name:<20}{count / GIB:>10.3f} GiB" for name, count in memory.items()),
                f"a step: {self.tokens_per_step:,} tokens, {self.flops_per_step:.3g} FLOPs",
                f"a checkpoint: {self.checkpoint_bytes / GIB:.3f} GiB",
            ]
        )


def plan_run(config: TrainConfig, method: Method) -> RunPlan:
    """What a run needs.

    Weights that are published are planned as they are, before they are here; any others must be there.

    Raises:
        CheckpointError: there is no checkpoint for the command, or no such geometry.
        ConfigError: the mesh does not divide the model, or the command refuses the config.
    """
    geometry = _base(config, method).config
    check_method(config, method, geometry)
    is_lora = method == "lora"
    weight_bytes = jnp.dtype(config.run.weight_dtype).itemsize
    try:
        rules = MeshRules.parse(config.run.mesh or "data=1")
        rules = rules.resolve(rules.device_count)
        base = _memory(geometry, rules, config.run.dtype if is_lora else config.run.weight_dtype, is_packed=is_lora)
        plain = _memory(geometry, rules, "float32", is_packed=False)
    except ValueError as error:
        raise ConfigError(str(error), where="run.mesh") from None
    check_rows(config, rules)
    held = base.experts + base.other_parameters
    if is_lora:
        trained = _lora_parameters(config, geometry)
        trained_device = trained  # the factors are small: counted as if every device had all of them
        held += trained_device * weight_bytes
    else:
        trained = sum(spec.size for spec in tensor_specs(geometry).values() if not _is_frozen(spec.name, config))
        trained_device = (plain.experts + plain.other_parameters) // F32_BYTES * trained // count_parameters(geometry)
    rows = rows_per_device(config, rules)
    moments = _moment_bytes(config, trained_device)
    tokens = config.batch_size * config.sequence_length
    return RunPlan(
        method=method,
        mesh=str(rules),
        devices=rules.device_count,
        parameters=count_parameters(geometry),
        trained=trained,
        active=count_active_parameters(geometry),
        parameter_bytes=held,
        gradient_bytes=trained_device * F32_BYTES,
        moment_bytes=moments,
        gathered_bytes=base.gathered,
        activation_bytes=_activation_bytes(config, geometry, rules, rows, is_packed=is_lora),
        logit_bytes=_logit_bytes(config, geometry, rules, rows),
        checkpoint_bytes=trained * weight_bytes + _moment_bytes(config, trained),
        rows_per_device=rows,
        tokens_per_step=tokens,
        flops_per_step=_flops(config, geometry, tokens),
    )


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


def _memory(geometry: GptOssConfig, rules: MeshRules, dtype: str, *, is_packed: bool) -> DeviceMemory:
    form: Literal["mxfp4", "decoded"] = "mxfp4" if is_packed else "decoded"
    return memory_per_device(geometry, rules, batch=1, length=1, dtype=dtype, experts=form)


def _is_frozen(name: str, config: TrainConfig) -> bool:
    import fnmatch

    return any(fnmatch.fnmatchcase(name, pattern) for pattern in config.frozen)


def _lora_parameters(config: TrainConfig, geometry: GptOssConfig) -> int:
    """Numbers in the factors of all targets, and in what is trained beside them."""
    count = 0
    for name, spec in tensor_specs(geometry).items():
        target = next((one for one in config.lora.targets if name.endswith((f"{one}.weight", f"experts.{one}"))), None)
        if target in (*LINEAR_TARGETS, *EXPERT_TARGETS):
            *leading, out, width = spec.shape
            count += (leading[0] if leading else 1) * config.lora.rank * (out + width)
        elif (config.lora.router and ".router." in name) or (config.lora.sinks and name.endswith(".sinks")):
            count += spec.size
    return count


def _moment_bytes(config: TrainConfig, parameters: int) -> int:
    """From the optimizer's own shapes, of a square matrix."""
    side = 1024
    like = {"weight": jax.ShapeDtypeStruct((side, side), jnp.float32)}
    optimizer = make_optimizer(config.optimizer, steps=config.steps)
    state = jax.eval_shape(lambda parameters: init_moments(optimizer, parameters), like)
    moments: float = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.size > 1)
    return round(moments / side**2 * parameters)


def _activation_bytes(
    config: TrainConfig, geometry: GptOssConfig, rules: MeshRules, rows: int, *, is_packed: bool
) -> int:
    """What is kept of all layers, and what one layer works with backwards: itself and its gradients."""
    itemsize: int = jnp.dtype(config.run.dtype).itemsize
    D, q = geometry.hidden_size * itemsize, geometry.q_size // rules.tensor * itemsize
    rotated = q + 2 * geometry.kv_size // rules.tensor * itemsize
    kept_of_experts, products_of_experts = _bytes_of_experts(config, geometry, rules, itemsize, is_packed=is_packed)
    # The stream before and after attention, both normalised; queries, keys, values; what attention mixed, twice.
    layer = 4 * D + rotated + 2 * q + kept_of_experts
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
        return k * group * D * itemsize, 0  # the results alone, inside a derivative of its own
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
