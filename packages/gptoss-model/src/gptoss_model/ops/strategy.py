"""What the strategies of experts and of attention share: names, platforms, reasons.

A strategy is one function out of several with the same signature and the same result. It has a
name, it may need a platform, and `auto` stands for the one that suits a step. Whoever chooses says
why in a sentence; whoever declines, too.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

import jax
from gptoss_weights import MissingDependencyError

from gptoss_model.strategy_names import AUTO

__all__ = ["Availability", "StrategyChoice", "check_strategy", "current_platform", "list_availability"]


@dataclasses.dataclass(frozen=True)
class StrategyChoice:
    """A strategy's name, and the reason for it as a sentence."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Availability:
    """Whether this machine can run a strategy: what it is for if so, and why not otherwise."""

    name: str
    available: bool
    reason: str


def current_platform() -> str:
    """Where computations go by default: `cpu`, `gpu` or `tpu`."""
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else str(device.platform)


def check_strategy(kind: str, name: str, names: Sequence[str], obstacles: Mapping[str, str]) -> str:
    """The name itself, if it stands for something that can run here.

    Args:
        kind: What the strategies are for, as in "no MoE strategy is called …".
        name: What was asked for.
        names: All there are.
        obstacles: Why those that cannot run here cannot.

    Raises:
        ValueError: there is no such strategy.
        MissingDependencyError: there is, and this machine cannot run it.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no {kind} strategy is called {name!r}; there are {', '.join(names)}{hint}")
    if name in obstacles:
        raise MissingDependencyError(
            f"the {kind} strategy {name!r} cannot run here: {obstacles[name]}", fix=f"{AUTO!r} finds one that can."
        )
    return name


def list_availability(purposes: Mapping[str, str], obstacles: Mapping[str, str]) -> list[Availability]:
    """Every strategy with its purpose, or with what stands in its way."""
    return [
        Availability(name, name not in obstacles, obstacles.get(name, purpose)) for name, purpose in purposes.items()
    ]
