"""GptOssConfig: the geometry of a checkpoint, in both JSON dialects, without loss.

OpenAI's `original/config.json` is flat and names exactly what the mathematics needs. Hugging Face's
`config.json` nests the rotary settings and surrounds them with metadata. Reading either gives the
same `GptOssConfig`; what the mathematics does not need is carried along in `metadata` and written
back. A key that the mathematics needs must be there, once, and must not contradict another.
"""

import dataclasses
import difflib
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gptoss_weights.errors import CheckpointError
from gptoss_weights.yarn import yarn_ramp

__all__ = ["GPT_OSS_20B", "GPT_OSS_120B", "RMS_NORM_EPS", "SWIGLU_ALPHA", "ConfigDialect", "GptOssConfig"]

RMS_NORM_EPS = 1e-5  # openai/gpt-oss torch/model.py, RMSNorm
SWIGLU_ALPHA = 1.702  # openai/gpt-oss torch/model.py, swiglu

type ConfigDialect = Literal["openai", "huggingface"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GptOssConfig:
    """Every number that the forward pass needs, named as in OpenAI's `original/config.json`.

    Sizes count elements, `sliding_window` and `initial_context_length` count tokens.
    `metadata` holds what a Hugging Face config says beyond that (token ids, `architectures`, …);
    it takes no part in equality.

    Raises:
        CheckpointError: a number is out of range, or two contradict each other.

    Source: openai/gpt-oss torch/model.py, `ModelConfig`.
    """

    num_hidden_layers: int
    num_experts: int
    experts_per_token: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    swiglu_limit: float
    head_dim: int
    num_attention_heads: int
    num_key_value_heads: int
    sliding_window: int
    initial_context_length: int
    rope_theta: float
    rope_scaling_factor: float
    rope_ntk_alpha: float
    rope_ntk_beta: float
    metadata: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    def __post_init__(self) -> None:
        problems = _range_problems(self)
        if problems:
            raise CheckpointError("the config is not possible: " + "; ".join(problems))

    @property
    def q_size(self) -> int:
        """Width of all query heads together, N·H."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together, K·H."""
        return self.num_key_value_heads * self.head_dim

    @property
    def max_position_embeddings(self) -> int:
        """Number of positions that the rotary scaling is meant for."""
        return round(self.initial_context_length * max(self.rope_scaling_factor, 1.0))

    def is_sliding(self, layer: int) -> bool:
        """Whether a layer sees only the last `sliding_window` keys: the even ones do."""
        return layer % 2 == 0

    @staticmethod
    def read(path: Path) -> "GptOssConfig":
        """Reads a `config.json` in either dialect.

        Raises:
            CheckpointError: not JSON, or a key is missing, misspelled, mistyped or contradictory.
        """
        return GptOssConfig.from_json(_load_json(path), where=str(path))

    @staticmethod
    def from_json(document: Mapping[str, Any], *, where: str = "config") -> "GptOssConfig":
        """Builds a config from a parsed `config.json` in either dialect; `where` names it in errors."""
        if _dialect_of(document) == "huggingface":
            values, metadata = _from_huggingface(document, where)
        else:
            values, metadata = _from_openai(document, where)
        try:
            return GptOssConfig(**values, metadata=MappingProxyType(metadata))
        except CheckpointError as error:
            raise CheckpointError(error.what, where=where) from None

    def to_openai(self) -> dict[str, Any]:
        """The flat dialect of `original/config.json`, key for key in the published order."""
        return {name: getattr(self, name) for name in NUMBERS}

    def to_huggingface(self) -> dict[str, Any]:
        """The dialect of transformers, with all metadata that was read, keys sorted as published."""
        document = dict(_HF_DEFAULTS) | dict(self.metadata)
        rope = {
            "beta_fast": float(self.rope_ntk_beta),
            "beta_slow": float(self.rope_ntk_alpha),
            "factor": float(self.rope_scaling_factor),
            "original_max_position_embeddings": self.initial_context_length,
            "rope_type": "yarn",
            "truncate": False,
        }
        document |= {
            "experts_per_token": self.experts_per_token,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden_size,
            "initial_context_length": self.initial_context_length,
            "intermediate_size": self.intermediate_size,
            "layer_types": _layer_types(self.num_hidden_layers),
            "num_attention_heads": self.num_attention_heads,
            "num_experts_per_tok": self.experts_per_token,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "num_local_experts": self.num_experts,
            "rope_scaling": rope,
            "rope_theta": self.rope_theta,
            "sliding_window": self.sliding_window,
            "swiglu_limit": float(self.swiglu_limit),
            "vocab_size": self.vocab_size,
        }
        document.setdefault("max_position_embeddings", self.max_position_embeddings)
        return dict(sorted(document.items()))


NUMBERS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(GptOssConfig) if field.name != "metadata")
_FLOATS = {"swiglu_limit", "rope_theta", "rope_scaling_factor", "rope_ntk_alpha", "rope_ntk_beta"}

# Hugging Face's spelling of each number → ours. Where two are listed, published files carry both.
_HF_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "num_hidden_layers": ("num_hidden_layers",),
    "num_experts": ("num_local_experts",),
    "experts_per_token": ("num_experts_per_tok", "experts_per_token"),
    "vocab_size": ("vocab_size",),
    "hidden_size": ("hidden_size",),
    "intermediate_size": ("intermediate_size",),
    "swiglu_limit": ("swiglu_limit",),
    "head_dim": ("head_dim",),
    "num_attention_heads": ("num_attention_heads",),
    "num_key_value_heads": ("num_key_value_heads",),
    "sliding_window": ("sliding_window",),
}
_HF_ROPE_NUMBERS: Mapping[str, str] = {
    "initial_context_length": "original_max_position_embeddings",
    "rope_theta": "rope_theta",
    "rope_scaling_factor": "factor",
    "rope_ntk_alpha": "beta_slow",
    "rope_ntk_beta": "beta_fast",
}
# What the forward pass takes for granted: another value would silently compute something else.
_HF_FIXED: Mapping[str, Any] = {
    "attention_bias": True,
    "hidden_act": "silu",
    "model_type": "gpt_oss",
    "rms_norm_eps": RMS_NORM_EPS,
    "swiglu_alpha": SWIGLU_ALPHA,
    "tie_word_embeddings": False,
}
_HF_DEFAULTS: Mapping[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "model_type": "gpt_oss",
    "output_router_logits": False,
    "rms_norm_eps": RMS_NORM_EPS,
    "router_aux_loss_coef": 0.9,
    "tie_word_embeddings": False,
    "use_cache": True,
}
# Keys of transformers configs that the mathematics does not need: carried along in silence.
_HF_METADATA = frozenset(
    """_attn_implementation _name_or_path add_cross_attention architectures attention_dropout auto_map
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id id2label initializer_range is_decoder is_encoder_decoder
    label2id length_penalty max_length max_position_embeddings min_length model_type no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_router_logits output_scores pad_token_id prefix problem_type pruned_heads
    quantization_config remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    router_aux_loss_coef sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version transformers.js_config typical_p unsloth_fixed use_bfloat16 use_cache""".split()
)
_HF_ROPE_KEYS = frozenset(_HF_ROPE_NUMBERS.values()) | {
    "attention_factor",
    "rope_type",
    "truncate",
    "type",
}


def _load_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError("there is no such config file", where=path, fix="Give its place with --config.")
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the config is not valid JSON ({error})", where=path) from None
    if not isinstance(document, dict):
        raise CheckpointError("the config is not a JSON object", where=path, found=type(document).__name__)
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the key {twice[0]!r} stands there twice")
    return document


def _dialect_of(document: Mapping[str, Any]) -> ConfigDialect:
    """Hugging Face's dialect names its experts or its rotary settings in ways that ours never does."""
    marks = ("model_type", "architectures", "num_local_experts", "rope_scaling", "rope_parameters")
    return "huggingface" if any(mark in document for mark in marks) else "openai"


def _from_openai(document: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    problems: list[str] = []
    values = {name: _number(document, name, name in _FLOATS, problems) for name in NUMBERS}
    extra = [name for name in document if name not in NUMBERS]
    _report(problems, extra, document, NUMBERS, where)
    return values, {name: document[name] for name in extra}


def _from_huggingface(document: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, spellings in _HF_NUMBERS.items():
        present = [s for s in spellings if s in document] or [spellings[0]]
        values[name] = _number(document, present[0], name in _FLOATS, problems)
        for other in present[1:]:
            if document[other] != document[present[0]]:
                problems.append(f"{other} = {document[other]!r} contradicts {present[0]} = {document[present[0]]!r}")
    rope, rope_name = _rope_section(document, problems)
    for name, spelling in _HF_ROPE_NUMBERS.items():
        values[name] = _number(rope, spelling, name in _FLOATS, problems, section=rope_name)
    problems += _rope_problems(rope, rope_name)
    problems += _contradictions(document, values)
    known = {s for spellings in _HF_NUMBERS.values() for s in spellings} | set(_HF_FIXED) | _HF_METADATA
    known |= {"initial_context_length", "layer_types", "rope_parameters", "rope_scaling", "rope_theta"}
    extra = [name for name in document if name not in known]
    unknown_rope = [f"{rope_name}.{name}" for name in rope if name not in _HF_ROPE_KEYS]
    _report(problems, extra + unknown_rope, document, sorted(known), where)
    mathematics = {s for spellings in _HF_NUMBERS.values() for s in spellings} | {
        "initial_context_length",
        "layer_types",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
    }
    return values, {name: value for name, value in document.items() if name not in mathematics}


def _rope_section(document: Mapping[str, Any], problems: list[str]) -> tuple[dict[str, Any], str]:
    """The rotary settings: `rope_parameters` (transformers ≥ 5), or `rope_scaling` beside `rope_theta`."""
    sections = {name: document[name] for name in ("rope_parameters", "rope_scaling") if name in document}
    merged: list[tuple[str, dict[str, Any]]] = []
    for name, section in sections.items():
        if not isinstance(section, dict):
            problems.append(f"{name} is not an object but {section!r}")
            continue
        settings = dict(section)
        if "rope_theta" in document:
            if settings.get("rope_theta", document["rope_theta"]) != document["rope_theta"]:
                problems.append(f"{name}.rope_theta contradicts rope_theta = {document['rope_theta']!r}")
            settings.setdefault("rope_theta", document["rope_theta"])
        merged.append((name, settings))
    if len(merged) == 2 and merged[0][1] != merged[1][1]:
        problems.append("rope_parameters and rope_scaling contradict each other")
    if merged:
        return merged[0][1], merged[0][0]
    if not sections:
        problems.append("rope_scaling (or rope_parameters) is missing")
    return {}, "rope_scaling"


def _rope_problems(rope: Mapping[str, Any], section: str) -> list[str]:
    if not rope:
        return []
    problems = []
    kind = rope.get("rope_type", rope.get("type"))
    if kind != "yarn":
        problems.append(f"{section}.rope_type must be 'yarn', not {kind!r}")
    if rope.get("truncate") is not False:
        # transformers takes a missing `truncate` as true, which rounds the YaRN ramp (SPEC: up to 76 % off).
        problems.append(f"{section}.truncate must be false, not {rope.get('truncate', 'missing')!r}")
    factor, attention = rope.get("factor"), rope.get("attention_factor")
    if attention is not None and isinstance(factor, int | float) and factor > 0:
        usual = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        if not isinstance(attention, int | float) or abs(attention - usual) > 1e-6:
            problems.append(f"{section}.attention_factor = {attention!r} differs from YaRN's {usual:.6f}")
    return problems


def _contradictions(document: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name} must be {fixed!r}, not {document[name]!r}"
        for name, fixed in _HF_FIXED.items()
        if name in document and document[name] != fixed
    ]
    context = document.get("initial_context_length")
    if context is not None and values["initial_context_length"] not in (None, context):
        problems.append(
            f"initial_context_length = {context!r} contradicts "
            f"original_max_position_embeddings = {values['initial_context_length']!r}"
        )
    layers, kinds = values["num_hidden_layers"], document.get("layer_types")
    if kinds is not None and layers is not None and kinds != _layer_types(layers):
        problems.append(f"layer_types must alternate sliding_attention, full_attention over {layers} layers")
    return problems


def _layer_types(layers: int) -> list[str]:
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]


def _number(
    document: Mapping[str, Any], name: str, is_float: bool, problems: list[str], section: str = ""
) -> float | None:
    shown = f"{section}.{name}" if section else name
    if name not in document:
        if not section or document:
            near = difflib.get_close_matches(name, [n for n in document if isinstance(n, str)], n=1, cutoff=0.8)
            hint = f" (is {near[0]!r} a misspelling?)" if near and near[0] not in NUMBERS else ""
            problems.append(f"{shown} is missing{hint}")
        return None
    value = document[name]
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, int | float) or not (is_float or is_whole):
        problems.append(f"{shown} must be {'a number' if is_float else 'a whole number'}, not {value!r}")
        return None
    return value if is_float else int(value)


def _report(
    problems: list[str], unknown: list[str], document: Mapping[str, Any], known: tuple[str, ...] | list[str], where: str
) -> None:
    if problems:
        raise CheckpointError(
            "; ".join(problems), where=where, fix="Correct the config, or give another with --config."
        )
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        warnings.warn(f"{where}: unknown config key {name!r} is kept but not used{hint}", stacklevel=4)


def _range_problems(config: GptOssConfig) -> list[str]:
    c = config
    problems = [
        f"{name} must be at least 1, not {getattr(c, name)}"
        for name in NUMBERS
        if name not in _FLOATS and getattr(c, name) < 1
    ]
    problems += [
        f"{name} must be a positive finite number, not {getattr(c, name)}"
        for name in sorted(_FLOATS)
        if not (math.isfinite(getattr(c, name)) and getattr(c, name) > 0)
    ]
    if problems:
        return problems
    if c.experts_per_token > c.num_experts:
        problems.append(f"experts_per_token = {c.experts_per_token} exceeds num_experts = {c.num_experts}")
    if c.num_attention_heads % c.num_key_value_heads:
        problems.append(
            f"num_attention_heads = {c.num_attention_heads} is no multiple of "
            f"num_key_value_heads = {c.num_key_value_heads}"
        )
    if c.head_dim % 2:
        problems.append(f"head_dim = {c.head_dim} is odd, but the rotary embedding turns halves")
    for name in ("hidden_size", "intermediate_size"):
        if getattr(c, name) % 32:
            problems.append(f"{name} = {getattr(c, name)} is no multiple of the MXFP4 block of 32")
    if c.rope_scaling_factor > 1:
        low, high = yarn_ramp(
            head_dim=c.head_dim,
            rope_theta=c.rope_theta,
            initial_context_length=c.initial_context_length,
            beta=c.rope_ntk_beta,
            alpha=c.rope_ntk_alpha,
        )
        if not 0 < low < high < c.head_dim / 2 - 1:
            problems.append(
                f"the YaRN ramp {low:.3f} … {high:.3f} does not lie inside the {c.head_dim // 2} frequencies "
                "(openai/gpt-oss asserts 0 < low < high < head_dim/2 − 1)"
            )
    return problems


_PUBLISHED = {
    "experts_per_token": 4,
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "swiglu_limit": 7.0,
    "head_dim": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "sliding_window": 128,
    "initial_context_length": 4096,
    "rope_theta": 150000,
    "rope_scaling_factor": 32.0,
    "rope_ntk_alpha": 1,
    "rope_ntk_beta": 32,
}
GPT_OSS_20B = GptOssConfig.from_json({"num_hidden_layers": 24, "num_experts": 32} | _PUBLISHED)
GPT_OSS_120B = GptOssConfig.from_json({"num_hidden_layers": 36, "num_experts": 128} | _PUBLISHED)
