"""Arrays on a mesh, built from what is read for each device alone.

A part is read once for all devices of this process that hold it, put there, and forgotten: the host
never holds more of a parameter than one part of it, and no byte that only other hosts need.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from gptoss_weights import MXFP4_BLOCK_SIZE, Mxfp4Tensor
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gptoss_model.ops.mxfp4 import Mxfp4Array

__all__ = ["read_array", "read_packed"]

type Slices = tuple[slice, ...]


def read_array(
    shape: tuple[int, ...], mesh: Mesh, partition: PartitionSpec, read: Callable[[Slices], np.ndarray]
) -> jax.Array:
    """An array of which every device holds its part.

    Args:
        shape: Of the whole.
        mesh: The devices, those of other processes too.
        partition: How it is split.
        read: Gives the part that slices select; they have a start and a stop for each axis.
    """
    sharding = NamedSharding(mesh, partition)
    parts = []
    for slices, devices in _parts(sharding, shape):
        part = read(slices)
        parts += [jax.device_put(part, device) for device in devices]
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def read_packed(
    shape: tuple[int, ...], mesh: Mesh, partition: PartitionSpec, read: Callable[[Slices], Mxfp4Tensor]
) -> Mxfp4Array:
    """A packed array of which every device holds its part, in whole blocks.

    Args:
        shape: Of the values.
        mesh: As in `read_array`.
        partition: How the values are split; it divides the blocks.
        read: Gives the part of the values that slices select.
    """
    sharding = NamedSharding(mesh, partition)
    groups = (*shape[:-1], shape[-1] // MXFP4_BLOCK_SIZE)
    blocks, scales = [], []
    for (*leading, last), devices in _parts(sharding, groups):
        part = read((*leading, slice(last.start * MXFP4_BLOCK_SIZE, last.stop * MXFP4_BLOCK_SIZE)))
        blocks += [jax.device_put(part.blocks, device) for device in devices]
        scales += [jax.device_put(part.scales, device) for device in devices]
    return Mxfp4Array(
        jax.make_array_from_single_device_arrays((*groups, MXFP4_BLOCK_SIZE // 2), sharding, blocks),
        jax.make_array_from_single_device_arrays(groups, sharding, scales),
    )


def _parts(sharding: NamedSharding, shape: tuple[int, ...]) -> Iterator[tuple[Slices, list[jax.Device]]]:
    """Each part that a device of this process holds, once, and those devices."""
    holders: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        bounds = tuple(part.indices(extent)[:2] for part, extent in zip(index or (), shape, strict=True))
        holders.setdefault(bounds, []).append(device)
    for bounds, devices in holders.items():
        yield tuple(slice(*bound) for bound in bounds), devices
