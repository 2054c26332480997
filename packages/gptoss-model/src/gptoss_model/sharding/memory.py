"""Memory: the bytes that a device of a mesh needs, from shapes alone, before anything is loaded.

Counted are the parameters and the KV cache, exactly as they lie there, and under fsdp the largest
part of the model that is gathered at a time. What a step computes comes on top: activations, scores
and a few decoded experts; a tenth of the memory is room enough for steps of some hundred tokens.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from gptoss_weights import GptOssConfig, tensor_specs
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from gptoss_model.kv_cache import init_cache
from gptoss_model.loading import abstract_model
from gptoss_model.parameters import canonical_names
from gptoss_model.sharding.partitioning import Partitioning
from gptoss_model.sharding.rules import MESH_AXES, MeshRules
from gptoss_model.sharding.shards import Shards, batch_axes

__all__ = ["DeviceMemory", "memory_per_device"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Bytes on one device; every device of a mesh holds the same.

    Attributes:
        experts: The expert matrices.
        other_parameters: All other parameters.
        kv_cache: Keys, values and lengths.
        gathered: The largest layer, or the unembedding, as fsdp brings it together to run it.
    """

    experts: int
    other_parameters: int
    kv_cache: int
    gathered: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.experts + self.other_parameters + self.kv_cache + self.gathered


def memory_per_device(
    config: GptOssConfig,
    rules: MeshRules | str,
    *,
    batch: int,
    length: int,
    dtype: DTypeLike = jnp.bfloat16,
    param_dtype: DTypeLike | None = None,
    experts: Literal["mxfp4", "decoded"] = "mxfp4",
) -> DeviceMemory:
    """What a device needs to generate.

    Args:
        config: The geometry.
        rules: Sizes of the mesh axes, or a text such as `data=2,tensor=4`.
        batch: Number of sequences.
        length: Tokens of each, prompt and answer together.
        dtype: Of the activations and the cache.
        param_dtype: Of the parameters; None: `dtype`.
        experts: `mxfp4` for packed expert matrices, `decoded` for arrays.

    Raises:
        ValueError: the mesh does not divide the model, has an axis of size −1, or an argument has a
            value that is not allowed.
    """
    rules = MeshRules.parse(rules) if isinstance(rules, str) else rules
    rules = rules.resolve(rules.device_count)
    partitioning = Partitioning.of(config, rules, experts=experts)
    mesh = AbstractMesh(rules.sizes, MESH_AXES)
    specs = tensor_specs(config)
    held, gathered = {True: 0, False: 0}, dict[int | None, int]()
    model = abstract_model(config, dtype=dtype, param_dtype=param_dtype, experts=experts)
    for name, view in canonical_names(model).items():
        spec = specs[name]
        partition = partitioning(spec)
        part = _part_bytes(view.value, mesh, partition)
        held[spec.is_expert_matrix] += part
        if "fsdp" in str(partition) and name != "model.embed_tokens.weight":  # which is looked up in parts
            gathered[spec.layer] = gathered.get(spec.layer, 0) + part * rules.fsdp
    cache = jax.eval_shape(lambda: init_cache(config, batch, length, dtype))
    partitions = Shards(partitioning, batch_axes(rules, batch)).cache_partitions(cache)
    buffers = zip(jax.tree.leaves(cache), jax.tree.leaves(partitions), strict=True)
    return DeviceMemory(
        experts=held[True],
        other_parameters=held[False],
        kv_cache=sum(_part_bytes(buffer, mesh, partition) for buffer, partition in buffers),
        gathered=max(gathered.values(), default=0),
    )


def _part_bytes(value: object, mesh: AbstractMesh, partition: PartitionSpec) -> int:
    """Bytes of one device's part of an array, or of both halves of a packed one."""
    sharding = NamedSharding(mesh, partition)
    return sum(math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(value))
