"""Where a number that is none came from: the parameter to look at first."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptoss_train.parameters import Parameters, by_layer, false_names
from gptoss_train.step import StepReport

__all__ = ["origin_of"]

BEFORE_LAYERS, IN_LAYERS, BEHIND_LAYERS = range(3)
WITHIN_A_LAYER = (
    "input_layernorm",
    "q_proj",
    "k_proj",
    "v_proj",
    "sinks",
    "o_proj",
    "post_attention_layernorm",
    "router",
    "gate_up_proj",
    "down_proj",
)
OUTSIDE = {"embed_tokens": BEFORE_LAYERS, "norm": BEHIND_LAYERS, "lm_head": BEHIND_LAYERS}


def origin_of(report: StepReport, parameters: Parameters, frozen: Mapping[str, Any]) -> str:
    """What is no finite number in a step that was left out, as the beginning of a sentence.

    A parameter that is not finite itself comes first, in the order of the layers. Else the loss says where it began:
    where that is finite, a gradient was lost on the way back, and the first on that way is named; where it is not, the
    way back spoils every gradient.

    Args:
        report: Of the step.
        parameters: The trained ones, which the step has left as they were.
        frozen: The others.
    """
    values = false_names(_finite_rows({**frozen, **parameters}))
    if values:
        return f"{min(values, key=_forward_order)} holds what is no finite number"
    gradients = false_names(report.squares.are_finite())
    if not gradients:
        return "the loss is no finite number"
    if np.isfinite(float(report.total_loss)):
        return f"the gradient of {max(gradients, key=_forward_order)} is no finite number"
    return f"the loss, and with it the gradient of {min(gradients, key=_forward_order)}, is no finite number"


def _finite_rows(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """For each parameter whether all of it is finite, an entry a layer of a stack; packed ones always are."""
    numbers = {
        name: value
        for name, value in tree.items()
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating)
    }
    return {name: np.asarray(flags) for name, flags in _are_finite(numbers).items()}


@jax.jit
def _are_finite(numbers: Parameters) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(by_layer(name, value)).all(axis=-1) for name, value in numbers.items()}


def _forward_order(name: str) -> tuple[int, int, int]:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    if numbers:
        return IN_LAYERS, numbers[0], next(rank for rank, part in enumerate(WITHIN_A_LAYER) if part in name)
    place = next(place for part, place in OUTSIDE.items() if part in name)
    return place, 0, int("lm_head" in name)
