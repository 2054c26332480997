"""Which attention strategy to use, and why."""

import functools
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from jaxtyping import Array, Float, Int

from gptoss_model.ops.attention.blockwise import blockwise_attention
from gptoss_model.ops.attention.reference import reference_attention
from gptoss_model.ops.attention.splash import splash_attention
from gptoss_model.ops.attention.stacked import StackedRows
from gptoss_model.ops.strategy import (
    Availability,
    StrategyChoice,
    check_strategy,
    current_platform,
    list_availability,
)
from gptoss_model.strategy_names import ATTENTION_NAMES, AUTO

__all__ = [
    "ATTENTION_KERNELS",
    "ATTENTION_STRATEGIES",
    "AttentionStrategy",
    "check_attention_strategy",
    "choose_attention_strategy",
    "list_attention_strategies",
]

# Measured on two cores (64 heads × 64): up to here one product costs no more than a loop over blocks.
REFERENCE_MOST_SCORES = 1024  # a head


class AttentionStrategy(Protocol):
    """The one signature of all strategies; all give the same result to rounding, and the same gradients."""

    def __call__(
        self,
        q: Float[Array, "B T N H"],
        k: Float[Array, "B S K H"] | StackedRows,
        v: Float[Array, "B S K H"] | StackedRows,
        sinks: Float[Array, " N"],
        *,
        query_positions: Int[Array, "B T"],
        key_positions: Int[Array, "B S"],
        window: int | Int[Array, ""] | None,
        segments: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T N H"]:
        """Softmax over the visible scores and the sink, which contributes no value: Σ p·v.

        `p = exp(s) / (Σ exp(s) + exp(sink))` with `s = q·k / sqrt(H)`; query head n uses the kv head
        n // (N // K). Which key a query sees is up to `visible_keys`. Scores and probabilities are
        rounded to the dtype of q, the softmax runs in f32.

        Args:
            q: Rotated queries.
            k: Rotated keys; a cache may give them as rows of a stack.
            v: Values, likewise.
            sinks: One logit a query head.
            query_positions: Positions of the queries; negative where there is no token.
            key_positions: Positions of the keys; negative where there is no token.
            window: How many keys a query sees, or None for all; where layers share their code it is an array, which
                kernels do not take.
            segments: Which document each row belongs to, where queries and keys are the same rows and
                several documents are packed into one sequence; None: there is one.
        """


ATTENTION_STRATEGIES: Mapping[str, AttentionStrategy] = MappingProxyType(
    {
        "reference": reference_attention,
        "blockwise": blockwise_attention,
        "splash": splash_attention,
        "splash-interpret": functools.partial(splash_attention, interpret=True),
    }
)

ATTENTION_KERNELS = ("splash", "splash-interpret")  # they must know the window when they are compiled

_PURPOSES: Mapping[str, str] = {
    "reference": "Every score at once, in the steps of the official code: for a few tokens.",
    "blockwise": "Online softmax over the blocks of keys that are seen: for long prompts and long caches.",
    "splash": "For TPUs, without a cache: JAX's Pallas kernel with sinks.",
    "splash-interpret": "For tests: the same kernel interpreted, on any platform, thousands of times slower.",
}


def check_attention_strategy(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is neither a strategy nor `auto`.
        MissingDependencyError: this machine cannot run it.
    """
    # Importing the kernel costs the better part of a second: only where it is meant.
    return check_strategy("attention", name, ATTENTION_NAMES, _obstacles() if name in ATTENTION_KERNELS else {})


def list_attention_strategies() -> list[Availability]:
    """Which strategies this machine can run, and why not the others."""
    return list_availability(_PURPOSES, _obstacles())


def choose_attention_strategy(name: str, *, queries: int, keys: int) -> StrategyChoice:
    """What `auto` comes to; other names stay, but for steps that a kernel does not know.

    Args:
        name: A strategy, or `auto`.
        queries: Rows of queries in one step, padding included.
        keys: Rows of keys: as many as queries, or those of a cache as well.

    Raises:
        ValueError: there is no such strategy.
        MissingDependencyError: this machine cannot run it.
    """
    check_attention_strategy(name)
    if name in ATTENTION_KERNELS and queries != keys:
        return StrategyChoice(
            "blockwise", f"{name!r} was asked for, but knows no cache: {queries} queries see {keys} rows of keys"
        )
    if name != AUTO:
        return StrategyChoice(name, "it was asked for by name")
    platform = current_platform()
    step = f"on {platform.upper()}, {queries} queries and {keys} rows of keys"
    if queries * keys <= REFERENCE_MOST_SCORES:
        return StrategyChoice(
            "reference", f"{step}: up to {REFERENCE_MOST_SCORES} scores a head, one product is fastest"
        )
    if platform == "tpu" and queries == keys and "splash" not in _obstacles():
        return StrategyChoice("splash", f"{step}, no cache: a TPU has a kernel with sinks")
    return StrategyChoice("blockwise", f"{step}: blocks that nobody sees are skipped, and scores never fill memory")


def _obstacles() -> dict[str, str]:
    missing = _splash_obstacle()
    if missing is not None:
        return {"splash": missing, "splash-interpret": missing}
    platform = current_platform()
    if platform == "tpu":
        return {}
    return {
        "splash": f"its Pallas kernel is compiled for TPUs only, and JAX runs on {platform.upper()}; "
        "'splash-interpret' interprets it anywhere, to test it"
    }


@functools.cache
def _splash_obstacle() -> str | None:
    try:
        from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel
    except ImportError as error:
        return f"this JAX does not ship its kernel ({error})"
    if "sinks" not in inspect.signature(splash_attention_kernel.attention_reference).parameters:
        return "the kernel of this JAX takes no sinks"
    return None
