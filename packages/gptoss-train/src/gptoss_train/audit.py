"""The audit: after the first steps, whether all that should learn did, and nothing else.

Trainers have trained nothing without a word: updates that were never attached, gradients that were
stopped, experts that were left out. So the first steps are watched: every trained parameter must have had
a gradient and moved, and every frozen one must be, bit for bit, what it was.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptoss_train.errors import TrainingError
from gptoss_train.parameters import false_names, group_of, layers_of
from gptoss_train.step import StepReport

__all__ = ["FEWEST_STEPS", "Audit", "AuditResult"]

MOST_NAMED = 6
FEWEST_STEPS = 2  # b starts at zero, so in the first step a has no gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What was found.

    Attributes:
        trained: How many parameters are trained, counted by layer.
        frozen: How many are not, counted likewise.
        groups: Group → how many of it are trained.
        without_gradient: Names of trained ones that never had a gradient.
        unmoved: Names of trained ones that did not move.
        changed: Names of frozen ones that did.
    """

    trained: int
    frozen: int
    groups: Mapping[str, int]
    without_gradient: list[str]
    unmoved: list[str]
    changed: list[str]

    def sentence(self) -> str:
        """All is well, in a line."""
        groups = ", ".join(f"{group} {count}" for group, count in sorted(self.groups.items()))
        return f"audit: {self.trained} trained parameters ({groups}) moved, {self.frozen} frozen ones did not"

    def require(self) -> None:
        """Does nothing if all is well.

        Raises:
            TrainingError: something that should move did not, or the other way round.
        """
        problems = [
            f"{words}: {_listed(names)}"
            for words, names in (
                ("trained, but without a gradient", self.without_gradient),
                ("trained, but unmoved", [name for name in self.unmoved if name not in self.without_gradient]),
                ("frozen, but changed", self.changed),
            )
            if names
        ]
        if problems:
            raise TrainingError(
                "the audit of the first steps failed; " + "; ".join(problems),
                fix="An expert that no token of the first steps chose has no gradient: raise batch_size, or "
                "lora.audit_steps. Otherwise please report it.",
            )


class Audit:
    """Watches the first steps.

    Args:
        frozen: What must not change.
    """

    def __init__(self, frozen: Mapping[str, Any]) -> None:
        self.steps = 0
        """How many were watched."""
        self._before = _digests(frozen)
        self._moved: dict[str, np.ndarray] = {}
        self._had_gradient: dict[str, np.ndarray] = {}

    def watch(self, report: StepReport) -> None:
        """Takes a step into account, one that was applied."""
        self.steps += 1
        for seen, found in ((self._moved, report.moved), (self._had_gradient, report.has_gradient)):
            for name, flags in found.items():
                seen[name] = np.asarray(flags) | seen.get(name, np.False_)

    def result(self, frozen: Mapping[str, Any]) -> AuditResult:
        """What was found.

        Args:
            frozen: The frozen parameters now.
        """
        after = _digests(frozen)
        groups: dict[str, int] = {}
        for name, flags in self._moved.items():
            groups[group_of(name)] = groups.get(group_of(name), 0) + len(flags)
        return AuditResult(
            trained=sum(groups.values()),
            frozen=sum(layers_of(name, value) for name, value in frozen.items()),
            groups=groups,
            without_gradient=false_names(self._had_gradient),
            unmoved=false_names(self._moved),
            changed=[name for name, digest in after.items() if digest != self._before[name]],
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _digests(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """A checksum of the bits of each parameter, computed where it is."""
    sums = jax.jit(
        lambda tree: {name: [_checksum(leaf) for leaf in jax.tree.leaves(value)] for name, value in tree.items()}
    )
    return {name: tuple(int(value) for value in values) for name, values in sums(dict(tree)).items()}


def _checksum(array: jax.Array) -> jax.Array:
    """Σ bits · (2·place + 1) modulo 2^32: differs if any one bit does."""
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32).reshape(-1)
    return (bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1)).sum(dtype=jnp.uint32)
