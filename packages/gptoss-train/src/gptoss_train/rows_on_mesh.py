"""Rows over a mesh: which of its axes share the rows of a part of a step, and which go over the same ones.

So it is with processes: those whose devices go over the same rows read the same share of the data, and the data are
divided among groups of such processes.
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Mapping

import jax
from gptoss_model import MeshRules
from gptoss_model.sharding.shards import BATCH_AXES, batch_axes
from gptoss_weights import GptOssWarning
from jax.sharding import NamedSharding, PartitionSpec

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError

__all__ = ["RowShare", "check_rows", "row_share", "rows_per_device"]

MOST_NAMED = 8  # rows that an error names


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowShare:
    """Which share of a batch's rows a process reads.

    Attributes:
        index: Which one.
        count: How many shares there are, each as large.
    """

    index: int = 0
    count: int = 1


def row_share(
    rows: int,
    mesh: jax.sharding.Mesh | None,
    *,
    process: int | None = None,
    process_of: Callable[[jax.Device], int] = lambda device: device.process_index,
) -> RowShare:
    """The share of a process: that of all processes whose devices hold the same rows.

    Shares are in the order of the first row of each, whatever the order of the processes.

    Args:
        rows: That are split over the mesh at a time, all processes' together.
        mesh: Over all processes; None for one device.
        process: Which one; None: this one.
        process_of: To which process a device belongs.

    Raises:
        ConfigError: two processes have some rows in common and some not, or one has more than another.
    """
    if mesh is None:
        return RowShare()
    axes = batch_axes(MeshRules(**dict(mesh.shape)), rows)
    places = NamedSharding(mesh, PartitionSpec(axes or None)).devices_indices_map((rows,))
    held: dict[int, frozenset[int]] = {}
    for device, (index,) in places.items():
        held[process_of(device)] = held.get(process_of(device), frozenset()).union(range(rows)[index])
    shares = sorted(set(held.values()), key=min)
    if sum(map(len, shares)) > rows or len(set(map(len, shares))) > 1:
        raise _refusal(rows, mesh, held)
    return RowShare(index=shares.index(held[jax.process_index() if process is None else process]), count=len(shares))


def _refusal(rows: int, mesh: jax.sharding.Mesh, held: Mapping[int, frozenset[int]]) -> ConfigError:
    sizes = ",".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
    first, other = next(
        pair for pair in itertools.combinations(sorted(held), 2) if not _can_share(held[pair[0]], held[pair[1]])
    )
    return ConfigError(
        "the mesh cuts across the processes, so that they cannot share the rows in equal parts",
        where="run.mesh",
        expected="any two processes to hold the same rows, or as many others",
        found=f"{sizes}, where of {rows} rows process {first} holds {_listed(held[first])}, and process {other} "
        f"{_listed(held[other])}",
        fix=f"Such as data={len(held)},tensor=-1, with batch_size / gradient_accumulation a multiple of {len(held)}.",
    )


def _can_share(one: frozenset[int], other: frozenset[int]) -> bool:
    return one == other or (len(one) == len(other) and one.isdisjoint(other))


def _listed(rows: frozenset[int]) -> str:
    ordered = sorted(rows)
    more = f" and {len(ordered) - MOST_NAMED} more" if len(ordered) > MOST_NAMED else ""
    return ", ".join(map(str, ordered[:MOST_NAMED])) + more
