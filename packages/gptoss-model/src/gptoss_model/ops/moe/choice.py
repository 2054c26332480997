"""Which MoE strategy to use, and why."""

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from jaxtyping import Array, Bool, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights
from gptoss_model.ops.moe.gathered import gathered_moe
from gptoss_model.ops.moe.tiled import tiled_moe

__all__ = ["MOE_STRATEGIES", "MoeChoice", "MoeStrategy", "check_moe_strategy", "choose_moe_strategy"]

GATHERED_MOST_TOKENS = 2  # measured on two cores: the crossing lies between 2 and 4 tokens


class MoeStrategy(Protocol):
    """The one signature of all strategies; all give the same result to rounding, and drop no token."""

    def __call__(
        self,
        x: Float[Array, "M D"],
        indices: Int[Array, "M k"],
        weights: Float[Array, "M k"],
        experts: ExpertWeights,
        *,
        is_real: Bool[Array, " M"],
        swiglu_alpha: float,
        swiglu_limit: float,
    ) -> Float[Array, "M D"]:
        """The weighted sum of each token's experts.

        Args:
            x: Normalised activations of M tokens.
            indices: The k experts of each token.
            weights: Their weights.
            experts: Packed or decoded weights of all experts.
            is_real: False for padding, which goes to no expert and yields zeros.
            swiglu_alpha: Slope of the gate's sigmoid.
            swiglu_limit: Clamp of gate and up.
        """


MOE_STRATEGIES: Mapping[str, MoeStrategy] = MappingProxyType({"gathered": gathered_moe, "tiled": tiled_moe})


@dataclasses.dataclass(frozen=True)
class MoeChoice:
    """A strategy's name, and the reason for it as a sentence."""

    name: str
    reason: str


def check_moe_strategy(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is neither a strategy nor `auto`.
    """
    names = ["auto", *MOE_STRATEGIES]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no MoE strategy is called {name!r}; there are {', '.join(names)}{hint}")
    return name


def choose_moe_strategy(name: str, *, tokens: int) -> MoeChoice:
    """What `auto` comes to for a number of tokens in one step, padding included; other names stay.

    Raises:
        ValueError: there is no such strategy.
    """
    if check_moe_strategy(name) != "auto":
        return MoeChoice(name, "it was asked for by name")
    if tokens <= GATHERED_MOST_TOKENS:
        return MoeChoice("gathered", f"{tokens} tokens at most {GATHERED_MOST_TOKENS}: they seldom share an expert")
    return MoeChoice("tiled", f"{tokens} tokens, more than {GATHERED_MOST_TOKENS}: each expert is read once for many")
