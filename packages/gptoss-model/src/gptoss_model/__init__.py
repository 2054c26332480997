"""Runs GPT-OSS in JAX: Flax NNX modules over pure functions."""

from gptoss_model.generation import bucket_length, decode_step, generate, prefill
from gptoss_model.kv_cache import KVCache, init_cache
from gptoss_model.loading import ExpertForm, abstract_model, load_model
from gptoss_model.model import ForwardOutput, GptOss
from gptoss_model.parameters import PackedParam, ParameterSource, canonical_names

__all__ = [
    "ExpertForm",
    "ForwardOutput",
    "GptOss",
    "KVCache",
    "PackedParam",
    "ParameterSource",
    "abstract_model",
    "bucket_length",
    "canonical_names",
    "decode_step",
    "generate",
    "init_cache",
    "load_model",
    "prefill",
]
