"""Placement: a model's place on a mesh, and how its code runs there."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx
from gptoss_weights import GptOssConfig
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gptoss_model.sharding.mesh import mesh_rules
from gptoss_model.sharding.partitioning import Partitioning
from gptoss_model.sharding.shards import Shards, batch_axes

__all__ = ["Placement", "partitions_of"]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Which devices a model is on, and which part of it each one has.

    Attributes:
        mesh: The devices.
        partitioning: How the parameters are split over them.
    """

    mesh: Mesh
    partitioning: Partitioning

    @classmethod
    def of(cls, config: GptOssConfig, mesh: Mesh, *, experts: Literal["mxfp4", "decoded"]) -> Self:
        """The place of a model on a mesh.

        Raises:
            ValueError: the mesh does not divide the model, or has axes of other names.
        """
        return cls(mesh, Partitioning.of(config, mesh_rules(mesh), experts=experts))

    def shards(self, batch: int) -> Shards:
        """What each device has of a step with that many sequences."""
        return Shards(self.partitioning, batch_axes(self.partitioning.rules, batch))

    def zeros[T](self, shapes: T, partitions: T) -> T:
        """Arrays of zeros of these shapes, each made in parts where its parts belong."""

        def make(shape: jax.ShapeDtypeStruct, partition: PartitionSpec) -> jax.Array:
            return jnp.zeros(shape.shape, shape.dtype, device=NamedSharding(self.mesh, partition))

        arrays: T = jax.tree.map(make, shapes, partitions)
        return arrays

    def with_shardings[M: nnx.Module](self, abstract: M) -> M:
        """The abstract module with the sharding of each array beside its shape."""

        def add(variable: nnx.Variable[Any]) -> nnx.Variable[Any]:
            sharding = NamedSharding(self.mesh, variable.get_metadata("partition"))
            shapes = variable.get_value()
            return variable.replace(
                jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
            )

        sharded: M = jax.tree.map(add, abstract, is_leaf=lambda node: isinstance(node, nnx.Variable))
        return sharded

    def run[**P, T](self, part: Callable[P, T], partitions: object, results: object) -> Callable[P, T]:
        """The function that runs `part` on every device, on that device's part of the arguments.

        Args:
            part: Says itself, by `Shards`, what must travel.
            partitions: How each argument is split, as a tuple of pytrees of `PartitionSpec`.
            results: How the results are split.
        """
        spread: Callable[P, T] = jax.shard_map(
            part, mesh=self.mesh, in_specs=partitions, out_specs=results, check_vma=False
        )
        return spread


def partitions_of[T](tree: T) -> T:
    """For each parameter of a module how it is split, as a pytree that stands for the module."""

    def partition(variable: nnx.Variable[jax.Array]) -> PartitionSpec:
        split: PartitionSpec = variable.get_metadata("partition")
        return split

    partitions: T = jax.tree.map(partition, tree, is_leaf=lambda node: isinstance(node, nnx.Variable))
    return partitions
