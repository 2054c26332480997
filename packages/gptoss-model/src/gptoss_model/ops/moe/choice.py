"""Which MoE strategy to use, and why."""

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights
from gptoss_model.ops.moe.gathered import gathered_moe
from gptoss_model.ops.moe.tiled import tiled_moe

__all__ = ["MOE_STRATEGIES", "MoeChoice", "MoeStrategy", "check_moe_strategy", "choose_moe_strategy"]

# Measured in bf16 on two cores (hidden 1024, ffn 512, 32 experts, 4 chosen): where `tiled` overtakes `gathered`.
GATHERED_MOST_TOKENS_PACKED = 1  # packed experts are decoded again for every token
GATHERED_MOST_TOKENS_DECODED = 4


class MoeStrategy(Protocol):
    """The one signature of all strategies; all give the same result to rounding, and drop no token."""

    def __call__(
        self,
        x: Float[Array, "M D"],
        indices: Int[Array, "M k"],
        weights: Float[Array, "M k"],
        experts: ExpertWeights,
        *,
        swiglu_alpha: float,
        swiglu_limit: float,
    ) -> Float[Array, "M D"]:
        """The weighted sum of each token's experts.

        Args:
            x: Normalised activations of M tokens.
            indices: The k experts of each token. A number outside 0 … E − 1 means nobody: that
                assignment costs nothing and contributes zero. So padding goes to −1, and a device
                that holds some of the experts only can subtract where its own begin.
            weights: Their weights.
            experts: Packed or decoded weights of all experts.
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


def choose_moe_strategy(name: str, *, tokens: int, is_packed: bool) -> MoeChoice:
    """What `auto` comes to; other names stay.

    Args:
        name: A strategy, or `auto`.
        tokens: How many there are in one step, padding included.
        is_packed: Whether the experts are MXFP4.

    Raises:
        ValueError: there is no such strategy.
    """
    if check_moe_strategy(name) != "auto":
        return MoeChoice(name, "it was asked for by name")
    most = GATHERED_MOST_TOKENS_PACKED if is_packed else GATHERED_MOST_TOKENS_DECODED
    step = f"a step of {tokens} tokens with {'packed' if is_packed else 'decoded'} experts"
    if tokens <= most:
        return MoeChoice("gathered", f"{step}: up to {most}, reading each chosen expert by itself is fastest")
    return MoeChoice("tiled", f"{step}: beyond {most}, reading an expert once for all its tokens is fastest")
