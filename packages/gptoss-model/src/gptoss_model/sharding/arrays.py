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

__all__ = ["read_sharded"]

type Slices = tuple[slice, ...]


def read_sharded(
    shape: tuple[int, ...],
    mesh: Mesh,
    partition: PartitionSpec,
    read: Callable[[Slices], np.ndarray | Mxfp4Tensor],
    *,
    packed: bool = False,
) -> jax.Array | Mxfp4Array:
    """An array, or a packed one, of which every device holds its part.

    Args:
        shape: Of all the values.
        mesh: The devices, those of other processes too.
        partition: How the values are split; if they are packed it divides the blocks.
        read: Gives the part of the values that slices select; they have a start and a stop for each axis.
        packed: Whether it gives MXFP4.
    """
    sharding = NamedSharding(mesh, partition)
    unit = MXFP4_BLOCK_SIZE if packed else 1
    units = (*shape[:-1], shape[-1] // unit)
    parts: list[jax.Array] = []  # of an array, or of the blocks
    scales: list[jax.Array] = []
    for (*leading, last), devices in _parts(sharding, units):
        part = read((*leading, slice(last.start * unit, last.stop * unit)))
        if isinstance(part, Mxfp4Tensor):
            scales += [jax.device_put(part.scales, device) for device in devices]
            part = part.blocks
        parts += [jax.device_put(part, device) for device in devices]
    if not packed:
        return jax.make_array_from_single_device_arrays(shape, sharding, parts)
    blocks = (*units, MXFP4_BLOCK_SIZE // 2)
    return Mxfp4Array(
        jax.make_array_from_single_device_arrays(blocks, sharding, parts),
        jax.make_array_from_single_device_arrays(units, sharding, scales),
    )


def _parts(sharding: NamedSharding, shape: tuple[int, ...]) -> Iterator[tuple[Slices, list[jax.Device]]]:
    """Each part that a device of this process holds, once, and those devices."""
    holders: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        bounds = tuple(part.indices(extent)[:2] for part, extent in zip(index or (), shape, strict=True))
        holders.setdefault(bounds, []).append(device)
    for bounds, devices in holders.items():
        yield tuple(slice(*bound) for bound in bounds), devices
