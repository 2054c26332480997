"""Mixture of experts: one signature, one file a strategy, and a choice that can say why."""

from gptoss_model.ops.moe.choice import (
    MOE_STRATEGIES,
    MoeChoice,
    MoeStrategy,
    check_moe_strategy,
    choose_moe_strategy,
)
from gptoss_model.ops.moe.experts import ExpertWeights, apply_expert, combine_experts, has_expert
from gptoss_model.ops.moe.gathered import gathered_moe
from gptoss_model.ops.moe.tiled import tiled_moe

__all__ = [
    "MOE_STRATEGIES",
    "ExpertWeights",
    "MoeChoice",
    "MoeStrategy",
    "apply_expert",
    "check_moe_strategy",
    "choose_moe_strategy",
    "combine_experts",
    "gathered_moe",
    "has_expert",
    "tiled_moe",
]
