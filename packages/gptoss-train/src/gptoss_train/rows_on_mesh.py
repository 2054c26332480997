"""Rows over a mesh: which of its axes share the rows of a part of a step, and which go over the same ones."""

import math
import warnings
from collections.abc import Callable

import jax
from gptoss_model import MeshRules
from gptoss_model.sharding.shards import BATCH_AXES, batch_axes
from gptoss_weights import GptOssWarning
from jax.sharding import NamedSharding, PartitionSpec

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError

__all__ = ["check_processes", "check_rows", "rows_per_device"]


def rows_per_device(config: TrainConfig, rules: MeshRules) -> int:
    """How many rows of one part of a step a device has."""
    rows = config.batch_size // config.gradient_accumulation
    parts: int = math.prod(getattr(rules, axis) for axis in batch_axes(rules, rows))
    return rows // parts


def check_rows(config: TrainConfig, rules: MeshRules) -> None:
    """Refuses a mesh whose devices along `data` would do the same work, and warns of fsdp and expert that do.

    Those two at least share the parameters among them.

    Args:
        config: Has the rows of a step, and in how many parts they are gone through.
        rules: The mesh, without −1.

    Raises:
        ConfigError: `data` does not divide the rows.
    """
    rows = config.batch_size // config.gradient_accumulation
    axes = [axis for axis in BATCH_AXES if getattr(rules, axis) > 1]
    idle = [axis for axis in axes if axis not in batch_axes(rules, rows)]
    if not idle:
        return
    sizes = " × ".join(f"{axis}={getattr(rules, axis)}" for axis in axes)
    what = f"a part of a step has {rows} rows, which {sizes} do not divide"
    fix = f"Let batch_size / gradient_accumulation be a multiple of {sizes}."
    if "data" in idle:
        raise ConfigError(
            f"{what}; every device along data would go over the same rows",
            where="run.mesh",
            found=f"batch_size {config.batch_size}, gradient_accumulation {config.gradient_accumulation}",
            fix=fix,
        )
    warnings.warn(
        f"{what}; the devices along {' and '.join(idle)} go over the same ones. {fix}", GptOssWarning, stacklevel=2
    )


def check_processes(
    rows: int, mesh: jax.sharding.Mesh, *, process_of: Callable[[jax.Device], int] = lambda device: device.process_index
) -> None:
    """Refuses a mesh that has a row on devices of several processes, for each process reads its own rows.

    Args:
        rows: Of a part of a step, all processes' together.
        mesh: Over all processes.
        process_of: To which process a device belongs.

    Raises:
        ConfigError: some processes would need the same row.
    """
    axes = batch_axes(MeshRules(**dict(mesh.shape)), rows)
    places = NamedSharding(mesh, PartitionSpec(axes or None)).devices_indices_map((rows,))
    read: dict[int, set[int]] = {}
    for device, (index,) in places.items():
        read.setdefault(process_of(device), set()).update(range(rows)[index])
    if sum(map(len, read.values())) == rows:
        return
    sizes = ",".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
    raise ConfigError(
        "each process reads its own rows, and the mesh has some rows on devices of several processes",
        where="run.mesh",
        expected=f"data × fsdp × expert a multiple of the {len(read)} processes, and dividing the {rows} rows of a "
        "part of a step",
        found=sizes,
        fix=f"Such as data={len(read)},tensor=-1, with batch_size / gradient_accumulation a multiple of {len(read)}.",
    )
