"""Mixture of experts: one signature, one file a strategy, and a choice that can say why."""

from gptoss_model.ops.moe.choice import (
    MOE_STRATEGIES,
    MoeStrategy,
    check_moe_strategy,
    choose_moe_strategy,
    list_moe_strategies,
)
from gptoss_model.ops.moe.dense import dense_moe
from gptoss_model.ops.moe.experts import (
    Expert,
    ExpertWeights,
    apply_expert,
    combine_experts,
    has_expert,
    inspect_experts,
)
from gptoss_model.ops.moe.gathered import gathered_moe
from gptoss_model.ops.moe.megablox import megablox_moe
from gptoss_model.ops.moe.ragged import ragged_moe
from gptoss_model.ops.moe.tiled import tiled_moe
from gptoss_model.ops.stacked import StackedMatrices, unstacked

__all__ = [
    "MOE_STRATEGIES",
    "Expert",
    "ExpertWeights",
    "MoeStrategy",
    "StackedMatrices",
    "apply_expert",
    "check_moe_strategy",
    "choose_moe_strategy",
    "combine_experts",
    "dense_moe",
    "gathered_moe",
    "has_expert",
    "inspect_experts",
    "list_moe_strategies",
    "megablox_moe",
    "ragged_moe",
    "tiled_moe",
    "unstacked",
]
