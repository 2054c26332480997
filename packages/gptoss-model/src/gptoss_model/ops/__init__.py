"""Pure functions on arrays: the mathematics of GPT-OSS, without parameters, configs or state."""

from gptoss_model.ops.attention import reference_attention, visible_keys
from gptoss_model.ops.linear import linear
from gptoss_model.ops.mxfp4 import Mxfp4Array, decode_mxfp4
from gptoss_model.ops.rms_norm import rms_norm
from gptoss_model.ops.rope import apply_rope, rope_cos_sin
from gptoss_model.ops.rounding import add_rounded, rounded
from gptoss_model.ops.routing import route_tokens
from gptoss_model.ops.swiglu import swiglu

__all__ = [
    "Mxfp4Array",
    "add_rounded",
    "apply_rope",
    "decode_mxfp4",
    "linear",
    "reference_attention",
    "rms_norm",
    "rope_cos_sin",
    "rounded",
    "route_tokens",
    "swiglu",
    "visible_keys",
]
