"""Canaries: the positions at which errors of windows and rotary scaling first show, looked at one by one.

Position 0 sees itself only. W − 1 is the last that sees every earlier one through a window of W, W the
first that has lost one, W + 1 tells a window that is off by one from one that is not. From 4096 on,
positions are beyond the context that the rotary embedding was first trained for. The last position
is the one that people look at.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gptoss_parity.measures import ProbeMeasures
from gptoss_parity.routing import Reach, Routing

__all__ = ["ORIGINAL_CONTEXT", "Canary", "canary_positions", "measure_canaries"]

ORIGINAL_CONTEXT = 4096  # of the published models; YaRN takes over there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """One position.

    Attributes:
        label: Why it is looked at, e.g. `W`.
        position: Which token.
        is_reached: Whether the prompt is so long; if not, the rest is None.
        relative_l2: Of the position's logits.
        kl: KL(reference ‖ candidate) there.
        argmax_agrees: Whether both expect the same next token.
        layers_alike: In how many layers both chose the same experts, and of how many.
        worst_probe: The probe, of those that no flip has reached there, with the largest relative L2.
        worst_relative_l2: That.
    """

    label: str
    position: int
    is_reached: bool
    relative_l2: float | None = None
    kl: float | None = None
    argmax_agrees: bool | None = None
    layers_alike: tuple[int, int] | None = None
    worst_probe: str | None = None
    worst_relative_l2: float | None = None


def canary_positions(tokens: int, window: int | None) -> list[tuple[str, int]]:
    """Labels and positions, ascending, each position once; the last of the prompt is the last that is reached.

    Args:
        tokens: Length of the prompt.
        window: The sliding window; None where it is not known.
    """
    labels: dict[int, str] = {}

    def add(position: int, label: str) -> None:
        if position >= 0:
            labels[position] = f"{labels[position]}, {label}" if position in labels else label

    add(0, "first")
    if window is not None:
        for offset, label in ((-1, "W − 1"), (0, "W"), (1, "W + 1")):
            add(window + offset, label)
    for offset, label in ((-1, "4096 − 1"), (0, "4096, beyond the first context"), (1, "4096 + 1")):
        add(ORIGINAL_CONTEXT + offset, label)
    add(tokens - 1, "last")
    return [(labels[position], position) for position in sorted(labels)]


def measure_canaries(
    probes: Sequence[ProbeMeasures],
    routing: Routing,
    reference: np.ndarray | None,
    candidate: np.ndarray | None,
    *,
    tokens: int,
    window: int | None,
) -> tuple[Canary, ...]:
    """Every canary position of a comparison; `reference` and `candidate` are logits [T, V], where both have them."""
    logits = next((probe for probe in probes if probe.name == "logits"), None)
    canaries = []
    for label, position in canary_positions(tokens, window):
        if position >= tokens:
            canaries.append(Canary(label=label, position=position, is_reached=False))
            continue
        alike = [bool(layer.same_experts[position]) for layer in routing.layers]
        worst = max(
            (probe for probe in probes if probe.reach[position] == Reach.CLEAN),
            key=lambda probe: _badness(float(probe.by_token[position])),
            default=None,
        )
        agrees = None
        if reference is not None and candidate is not None:
            agrees = bool(reference[position].argmax() == candidate[position].argmax())
        canaries.append(
            Canary(
                label=label,
                position=position,
                is_reached=True,
                relative_l2=None if logits is None else float(logits.by_token[position]),
                kl=None if logits is None or logits.logits is None else float(logits.logits.kl[position]),
                argmax_agrees=agrees,
                layers_alike=(sum(alike), len(alike)) if alike else None,
                worst_probe=None if worst is None else worst.name,
                worst_relative_l2=None if worst is None else float(worst.by_token[position]),
            )
        )
    return tuple(canaries)


def _badness(value: float) -> float:
    return value if value == value else float("inf")  # NaN is worse than any number
