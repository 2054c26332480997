"""Which MoE strategy to use, and why."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.dense import dense_moe
from gptoss_model.ops.moe.experts import ExpertWeights
from gptoss_model.ops.moe.gathered import gathered_moe
from gptoss_model.ops.moe.megablox import megablox_moe
from gptoss_model.ops.moe.ragged import ragged_moe
from gptoss_model.ops.moe.tiled import tiled_moe
from gptoss_model.ops.strategy import (
    Availability,
    StrategyChoice,
    check_strategy,
    current_platform,
    list_availability,
)
from gptoss_model.strategy_names import AUTO, MOE_NAMES

__all__ = ["MOE_STRATEGIES", "MoeStrategy", "check_moe_strategy", "choose_moe_strategy", "list_moe_strategies"]

# Measured in bf16 on two cores (hidden 1024, ffn 512, 32 experts, 4 chosen): where `tiled` overtakes `gathered`.
GATHERED_MOST_TOKENS_PACKED_ON_CPU = 20
GATHERED_MOST_TOKENS_DECODED_ON_CPU = 8
# On accelerators, where `gathered` decodes an expert for every assignment.
GATHERED_MOST_TOKENS_PACKED = 1
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
                assignment contributes zero. So padding goes to −1, and a device
                that holds some of the experts only can subtract where its own begin.
            weights: Their weights.
            experts: Packed or decoded weights of all experts.
            swiglu_alpha: Slope of the gate's sigmoid.
            swiglu_limit: Clamp of gate and up.
        """


MOE_STRATEGIES: Mapping[str, MoeStrategy] = MappingProxyType(
    {
        "gathered": gathered_moe,
        "tiled": tiled_moe,
        "dense": dense_moe,
        "ragged": ragged_moe,
        "megablox": megablox_moe,
        "megablox-interpret": functools.partial(megablox_moe, interpret=True),
    }
)

_PURPOSES: Mapping[str, str] = {
    "gathered": "For a few tokens: reads each chosen expert by itself.",
    "tiled": "For prompts: reads, and decodes, each chosen expert once, and runs its tokens in tiles.",
    "dense": "Every expert on every token: E/k times the work, and no control flow.",
    "ragged": "For accelerators: jax.lax.ragged_dot on sorted tokens; decodes all packed experts first.",
    "megablox": "For TPUs: the Pallas grouped product that ships with JAX; decodes all packed experts first.",
    "megablox-interpret": "For tests: the same kernel interpreted, on any platform, thousands of times slower.",
}


def check_moe_strategy(name: str, *, capacity_factor: float | None = None) -> str:
    """The name itself.

    Args:
        name: A strategy, or `auto`.
        capacity_factor: Must be None; here so that whoever brings one from elsewhere learns why.

    Raises:
        ValueError: it is neither a strategy nor `auto`, or a capacity factor is given.
        MissingDependencyError: this machine cannot run it.
    """
    if capacity_factor is not None:
        raise ValueError(
            f"capacity_factor={capacity_factor} is refused: it would drop the tokens of a full expert, and GPT-OSS is "
            "trained and published without dropping any; every strategy here is dropless and needs no such bound. "
            "Leave it out"
        )
    return check_strategy("MoE", name, MOE_NAMES, _obstacles())


def list_moe_strategies() -> list[Availability]:
    """Which strategies this machine can run, and why not the others."""
    return list_availability(_PURPOSES, _obstacles())


def choose_moe_strategy(name: str, *, tokens: int, is_packed: bool) -> StrategyChoice:
    """What `auto` comes to; other names stay.

    On CPUs the bounds are measured. On accelerators they are not, but reasoned: a few tokens read
    the least by gathering; decoded experts have a grouped kernel; packed ones would first have to
    be decoded for it, all of them.

    Args:
        name: A strategy, or `auto`.
        tokens: How many there are in one step, padding included.
        is_packed: Whether the experts are MXFP4.

    Raises:
        ValueError: there is no such strategy.
        MissingDependencyError: this machine cannot run it.
    """
    if check_moe_strategy(name) != AUTO:
        return StrategyChoice(name, "it was asked for by name")
    platform = current_platform()
    if platform == "cpu":
        most = GATHERED_MOST_TOKENS_PACKED_ON_CPU if is_packed else GATHERED_MOST_TOKENS_DECODED_ON_CPU
    else:
        most = GATHERED_MOST_TOKENS_PACKED if is_packed else GATHERED_MOST_TOKENS_DECODED
    step = f"on {platform.upper()}, a step of {tokens} tokens with {'packed' if is_packed else 'decoded'} experts"
    if tokens <= most:
        return StrategyChoice("gathered", f"{step}: up to {most}, reading each chosen expert by itself is fastest")
    if platform == "tpu" and not is_packed:
        return StrategyChoice("megablox", f"{step}: beyond {most}, a TPU has a kernel for grouped products")
    if platform == "gpu" and not is_packed:
        return StrategyChoice("ragged", f"{step}: beyond {most}, XLA has a grouped product")
    return StrategyChoice("tiled", f"{step}: beyond {most}, reading an expert once for all its tokens is fastest")


def _obstacles() -> dict[str, str]:
    platform = current_platform()
    if platform == "tpu":
        return {}
    return {
        "megablox": f"its Pallas kernel is compiled for TPUs only, and JAX runs on {platform.upper()}; "
        "'megablox-interpret' interprets it anywhere, to test it"
    }
