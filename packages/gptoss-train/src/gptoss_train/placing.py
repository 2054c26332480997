"""A batch on the devices: cut into the parts of gradient accumulation, rows split over the mesh."""

import jax
import numpy as np
from gptoss_model import Placement
from jax.sharding import NamedSharding, PartitionSpec

from gptoss_train.batch import Batch
from gptoss_train.setup import Run

__all__ = ["place_batch", "place_rows"]


def place_batch(batch: Batch, run: Run) -> Batch:
    """This process's rows [B, T] as [A, B/A, T], A parts of a step.

    The rows of part p are p, p + A, …: so each process's rows go to its own devices, whatever A is.
    """
    parts = run.config.gradient_accumulation

    def cut(array: np.ndarray | jax.Array) -> np.ndarray:
        host = np.asarray(array)
        return np.ascontiguousarray(host.reshape(-1, parts, host.shape[-1]).swapaxes(0, 1))

    return _placed(Batch(*map(cut, batch)), run, run.config.batch_size // parts)


def place_rows(batch: Batch, run: Run) -> Batch:
    """This process's rows [B, T], to evaluate."""
    return _placed(batch, run, run.config.batch_size)


def _placed(batch: Batch, run: Run, rows: int) -> Batch:
    """Puts arrays […, rows here, T] on the devices."""
    if run.mesh is None:
        return Batch(*map(jax.device_put, batch))
    placement: Placement | None = run.model().placement
    assert placement is not None
    axes = placement.shards(rows).batch_axes
    leading = batch.tokens.ndim - 2
    sharding = NamedSharding(run.mesh, PartitionSpec(*[None] * leading, axes or None))
    shape = (*batch.tokens.shape[:leading], rows, batch.tokens.shape[-1])
    return Batch(*(jax.make_array_from_process_local_data(sharding, np.asarray(array), shape) for array in batch))
