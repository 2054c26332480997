"""The numbers of a config: their names, their kinds, and how one is read from JSON."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from gptoss_weights.wording import shown

__all__ = [
    "EITHER_NUMBERS",
    "LONGEST_KEY",
    "MOST_HINTS",
    "NUMBERS",
    "RMS_NORM_EPS",
    "SWIGLU_ALPHA",
    "WHOLE_NUMBERS",
    "kept_spelling",
    "read_number",
]

LONGEST_KEY = 64  # characters that a misspelling of a key of ours may have
MOST_HINTS = 100  # unknown keys that are held against the known ones: a config may be made of nothing else

RMS_NORM_EPS = 1e-5  # openai/gpt-oss torch/model.py, RMSNorm
SWIGLU_ALPHA = 1.702  # openai/gpt-oss torch/model.py, swiglu

# The published order of `original/config.json`; the fields of GptOssConfig are called the same.
NUMBERS: tuple[str, ...] = (
    "num_hidden_layers",
    "num_experts",
    "experts_per_token",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "swiglu_limit",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "sliding_window",
    "initial_context_length",
    "rope_theta",
    "rope_scaling_factor",
    "rope_ntk_alpha",
    "rope_ntk_beta",
)
EITHER_NUMBERS = frozenset({"rope_theta", "rope_ntk_alpha", "rope_ntk_beta"})  # published without a decimal point
WHOLE_NUMBERS = frozenset(NUMBERS) - EITHER_NUMBERS - {"swiglu_limit", "rope_scaling_factor"}


def read_number(
    document: Mapping[str, Any], key: str, name: str, problems: list[str], *, known: Collection[str], section: str = ""
) -> float | None:
    """The number under a key, or None and one problem more."""
    place = f"{section}.{key}" if section else key
    if key not in document:
        strangers = [other for other in document if other not in known and len(other) <= LONGEST_KEY][:MOST_HINTS]
        near = difflib.get_close_matches(key, strangers, n=1, cutoff=0.8)
        problems.append(f"{place} is missing" + (f" (is {near[0]!r} a misspelling?)" if near else ""))
        return None
    value = document[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (name in WHOLE_NUMBERS and isinstance(value, float) and not value.is_integer()):
        wanted = "a whole number" if name in WHOLE_NUMBERS else "a number"
        problems.append(f"{place} must be {wanted}, not {shown(value)}")
        return None
    return int(value) if name in WHOLE_NUMBERS else value


def kept_spelling(old: Any, new: Any) -> Any:
    """The old spelling of a number (1 or 1.0) unless the number itself has changed."""
    return old if old == new else new
