"""Shards: what travels between devices, seen from one of them.

A sharded model runs the code of the whole one on every device (`jax.shard_map`), on that device's
part of the batch, the heads, the experts, the ffn and the vocabulary. Where parts depend on each
other the code says so by one of the methods below; on a single device they do nothing. So all that
is ever sent stands here:

| where     | what                                                        | over           |
|-----------|-------------------------------------------------------------|----------------|
| a layer   | its parameters, whole again just before it runs             | fsdp           |
| embedding | rows, of which each device has some or a part of each       | tensor, fsdp   |
| attention | partial sums over the heads                                 | tensor         |
| experts   | the tokens of the group, then partial sums over the experts | expert, tensor |

Sums over devices run in f32 and are rounded once, so a mesh costs no accuracy.
"""

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from gptoss_model.kv_cache import KVCache
from gptoss_model.ops.moe import ExpertWeights, unstacked
from gptoss_model.ops.rounding import rounded
from gptoss_model.sharding.partitioning import Partitioning
from gptoss_model.sharding.rules import MeshRules

__all__ = ["ALONE", "BATCH_AXES", "RunExperts", "Shards", "batch_axes"]

BATCH_AXES = ("data", "fsdp", "expert")  # tensor has every token everywhere


class RunExperts(Protocol):
    """A MoE strategy, with everything given but what differs between devices."""

    def __call__(
        self, x: Float[Array, "M D"], indices: Int[Array, "M k"], weights: Float[Array, "M k"], experts: ExpertWeights
    ) -> Float[Array, "M D"]:
        """The weighted sum of each token's experts among those given."""


def batch_axes(rules: MeshRules, batch: int) -> tuple[str, ...]:
    """The mesh axes over which a batch of that many sequences is split.

    All of `BATCH_AXES` if their product divides it. An axis that does not divide has every sequence
    on all of its devices: right, but no faster, so let a batch be a multiple of the product.
    """
    axes: tuple[str, ...] = ()
    parts = 1
    for axis in BATCH_AXES:
        size = getattr(rules, axis)
        if size > 1 and batch % (parts * size) == 0:
            axes, parts = (*axes, axis), parts * size
    return axes


@dataclasses.dataclass(frozen=True)
class Shards:
    """One device's view of a step.

    Attributes:
        partitioning: What it holds of the parameters.
        batch_axes: The mesh axes over which the batch of this step is split.
    """

    partitioning: Partitioning = dataclasses.field(default_factory=Partitioning)
    batch_axes: tuple[str, ...] = ()

    def rows(self) -> PartitionSpec:
        """How an array with a leading batch axis is split."""
        return PartitionSpec(self.batch_axes or None)

    def logits(self, *, axes: int) -> PartitionSpec:
        """How logits with so many axes are split: the first like the batch, the last over tensor."""
        return PartitionSpec(self.batch_axes or None, *[None] * (axes - 2), "tensor")

    def cache_partitions(self, cache: KVCache) -> KVCache:
        """How each buffer of a cache is split: the batch, and the kv heads over tensor."""
        buffer = (self.batch_axes or None, None, "tensor", None)
        part = PartitionSpec(None, *buffer) if cache.scan_layers else PartitionSpec(*buffer)
        partitions: KVCache = jax.tree.map(lambda leaf: self.rows() if leaf.ndim == 1 else part, cache)
        return partitions

    def gathered[M: nnx.Module](self, module: M) -> M:
        """The module with its parameters whole along fsdp; packed ones travel packed."""
        if not self._is_split("fsdp"):
            return module

        def gather(variable: nnx.Variable[Any]) -> nnx.Variable[Any]:
            partition: PartitionSpec = variable.get_metadata("partition")
            split = [axis for axis, names in enumerate(partition) if names == "fsdp" or "fsdp" in (names or ())]
            if not split:
                return variable
            value = unstacked(variable.get_value())
            [axis] = split
            axis -= len(partition) - len(value.shape)  # a layer of a stack has lost its first axis
            together = functools.partial(lax.all_gather, axis_name="fsdp", axis=axis, tiled=True)
            return variable.replace(jax.tree.map(together, value))

        whole: M = jax.tree.map(gather, module, is_leaf=lambda node: isinstance(node, nnx.Variable))
        return whole

    def look_up(self, table: Float[Array, "V D"], tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Rows of the embedding, of which the device has a part of V and of D; an id out of range is clipped.

        Not the table travels along fsdp but the ids to all, and back what each has of their rows.
        """
        exchanges = self._is_split("fsdp") and "fsdp" in self.batch_axes
        if exchanges:
            tokens = lax.all_gather(tokens, "fsdp", axis=0, tiled=True)
        rows = table.shape[0]
        tokens = jnp.clip(tokens, 0, rows * self.partitioning.count(("tensor",)) - 1)
        local = tokens - self._index(("tensor",)) * rows
        has_row = (local >= 0) & (local < rows)
        found = table.at[local].get(mode="clip")
        if self._is_split("tensor"):
            found = lax.psum(jnp.where(has_row[..., None], found, 0), "tensor")
        if exchanges:
            found = lax.all_to_all(found, "fsdp", split_axis=0, concat_axis=2, tiled=True)
        elif self._is_split("fsdp"):
            found = lax.all_gather(found, "fsdp", axis=2, tiled=True)
        return found

    def sum_heads(self, partial: Float[Array, "..."]) -> Float[Array, "..."]:
        """The sum, over all devices, of what each has from its heads."""
        return lax.psum(partial, "tensor") if self._is_split("tensor") else partial

    def run_experts(
        self,
        run: RunExperts,
        x: Float[Array, "M D"],
        indices: Int[Array, "M k"],
        weights: Float[Array, "M k"],
        experts: ExpertWeights,
    ) -> Float[Array, "M D"]:
        """The weighted sum of each token's experts, wherever they are.

        The devices of an expert group bring their tokens together, each runs its own experts on all
        of them, and the sums go back to where the tokens came from. If the group has the same tokens
        anyway, the sums are shared. A device with a part of F has a part of each sum.
        """
        exchanges = self._is_split("expert") and "expert" in self.batch_axes
        if exchanges:
            bring = functools.partial(lax.all_gather, axis_name="expert", axis=0, tiled=True)
            x, indices, weights = bring(x), bring(indices), bring(weights)
        first = self._index(self.partitioning.expert_axes) * experts.count
        ffn_part = self._index(self.partitioning.ffn_axes)
        once = jnp.where(ffn_part == 0, experts.down_proj_bias, 0)
        output = run(x, indices - first, weights, dataclasses.replace(experts, down_proj_bias=once))
        if not self._is_split("expert") and not self._is_split("tensor"):
            return output
        total = output.astype(jnp.float32)
        if exchanges:
            total = lax.psum_scatter(total, "expert", scatter_dimension=0, tiled=True)
        elif self._is_split("expert"):
            total = lax.psum(total, "expert")
        if self._is_split("tensor"):
            total = lax.psum(total, "tensor")
        return rounded(total, output.dtype)

    def _is_split(self, axis: str) -> bool:
        return self.partitioning.count((axis,)) > 1

    def _index(self, axes: tuple[str, ...]) -> jax.Array | int:
        """The number of the device's part, where those mesh axes split something."""
        index: jax.Array | int = 0
        for axis in axes:
            if self._is_split(axis):
                index = index * self.partitioning.count((axis,)) + lax.axis_index(axis)
        return index


ALONE = Shards()
