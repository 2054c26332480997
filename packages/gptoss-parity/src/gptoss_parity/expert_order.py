"""Probes of chosen experts stand best expert first; compared, they stand in the order of experts' numbers.

Two router logits that all but tie may change places in two correct implementations, and nothing else
changes with them.
"""

import numpy as np

from gptoss_parity.probe_names import ProbeName
from gptoss_parity.trace import Trace

__all__ = ["align_by_expert", "in_expert_order", "is_by_expert"]

_BY_EXPERT = ("router_weights", "pre_activation", "activated", "expert_outputs")  # [T, k, …], best expert first


def is_by_expert(probe: ProbeName) -> bool:
    """Whether the probe has an axis of chosen experts."""
    return probe.kind in _BY_EXPERT


def in_expert_order(probe: ProbeName, trace: Trace) -> np.ndarray:
    """A trace's probe; if it has an axis of chosen experts, in the order of their numbers."""
    indices = f"layers.{probe.layer}.router_indices"
    if not is_by_expert(probe) or indices not in trace:
        return trace[probe.name]
    return align_by_expert(trace[probe.name], trace[indices])


def align_by_expert(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Values [T, k, …] in the order of their experts' numbers, indices [T, k]."""
    order = np.argsort(indices, axis=-1, kind="stable")
    return np.take_along_axis(values, order.reshape(*order.shape, *[1] * (values.ndim - order.ndim)), axis=1)
