"""Attention with sinks: one signature, one file a strategy, and a choice that can say why."""

from gptoss_model.ops.attention.blockwise import blockwise_attention
from gptoss_model.ops.attention.choice import (
    ATTENTION_KERNELS,
    ATTENTION_STRATEGIES,
    AttentionStrategy,
    check_attention_strategy,
    choose_attention_strategy,
    list_attention_strategies,
)
from gptoss_model.ops.attention.reference import reference_attention
from gptoss_model.ops.attention.splash import splash_attention
from gptoss_model.ops.attention.stacked import StackedRows
from gptoss_model.ops.attention.visibility import visible_keys

__all__ = [
    "ATTENTION_KERNELS",
    "ATTENTION_STRATEGIES",
    "AttentionStrategy",
    "StackedRows",
    "blockwise_attention",
    "check_attention_strategy",
    "choose_attention_strategy",
    "list_attention_strategies",
    "reference_attention",
    "splash_attention",
    "visible_keys",
]
