"""Hugging Face's dialect, the `config.json` of transformers: nested rotary settings amid metadata.

The rotary settings stand in `rope_scaling` beside `rope_theta`, or, since transformers 5, in
`rope_parameters`. Either is read, and written back where it stood.
"""

import copy
from collections.abc import Mapping
from typing import Any

from gptoss_weights.config_dialects.numbers import (
    NUMBERS,
    RMS_NORM_EPS,
    SWIGLU_ALPHA,
    kept_spelling,
    read_number,
)
from gptoss_weights.wording import shown
from gptoss_weights.yarn import rope_concentration

__all__ = [
    "HF_KNOWN_KEYS",
    "HF_MATHEMATICS",
    "HF_ROPE_KEYS",
    "KNOWN_METADATA",
    "layer_types",
    "parse_huggingface",
    "unknown_huggingface_keys",
    "write_huggingface",
]

# Our name → Hugging Face's. Where two are listed, published files carry both.
_HF_SPELLINGS: Mapping[str, tuple[str, ...]] = {
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
_HF_ROPE_SPELLINGS: Mapping[str, str] = {
    "rope_ntk_beta": "beta_fast",
    "rope_ntk_alpha": "beta_slow",
    "rope_scaling_factor": "factor",
    "initial_context_length": "original_max_position_embeddings",
    "rope_theta": "rope_theta",
}
_HF_ROPE_SECTIONS = ("rope_parameters", "rope_scaling")
HF_MATHEMATICS = {spelling for spellings in _HF_SPELLINGS.values() for spelling in spellings} | {
    "initial_context_length",
    "layer_types",
    "rope_theta",
    *_HF_ROPE_SECTIONS,
}
# Settings of transformers' YaRN that the official code does not know.
_HF_ROPE_FIXED: Mapping[str, Any] = {"mscale": 1.0, "mscale_all_dim": 0, "partial_rotary_factor": 1.0}
HF_ROPE_KEYS = frozenset(
    {*_HF_ROPE_SPELLINGS.values(), *_HF_ROPE_FIXED, "attention_factor", "rope_type", "truncate", "type"}
)
ATTENTION_FACTOR_TOLERANCE = 1e-6  # absolute; a config may state YaRN's own factor, rounded to f32
# What the forward pass takes for granted: another value would silently compute something else.
_HF_FIXED: Mapping[str, Any] = {
    "attention_bias": True,
    "hidden_act": "silu",
    "model_type": "gpt_oss",
    "rms_norm_eps": RMS_NORM_EPS,
    "swiglu_alpha": SWIGLU_ALPHA,
    "tie_word_embeddings": False,
}
# What a config that was never Hugging Face's says there: the metadata of the published files.
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
    "transformers_version": "4.55.0.dev0",  # whose spelling this is
    "use_cache": True,
}
_HARMONY_VOCABULARY = 201088  # o200k_harmony, whose special tokens are known
_HARMONY_TOKENS: Mapping[str, int] = {"eos_token_id": 200002, "pad_token_id": 199999}
# Keys of transformers configs that the mathematics does not need.
KNOWN_METADATA = frozenset(
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
    transformers_version transformers.js_config typical_p unsloth_fixed use_bfloat16 use_cache""".split()  # noqa: SIM905 - as a list, twice the lines
)
HF_KNOWN_KEYS = frozenset({*HF_MATHEMATICS, *_HF_FIXED, *KNOWN_METADATA})


def layer_types(layers: int) -> list[str]:
    """Hugging Face's word for each layer: the even ones slide."""
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]


def parse_huggingface(document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Our name → number; what is wrong is added to `problems`."""
    values: dict[str, Any] = {}
    for name, spellings in _HF_SPELLINGS.items():
        present = [spelling for spelling in spellings if spelling in document] or [spellings[0]]
        values[name] = read_number(document, present[0], name, problems, known=HF_KNOWN_KEYS)
        problems += [
            f"{other} = {shown(document[other])} contradicts {present[0]} = {shown(document[present[0]])}"
            for other in present[1:]
            if document[other] != document[present[0]]
        ]
    section, rope = _rope_section(document, problems)
    for name, spelling in _HF_ROPE_SPELLINGS.items():
        values[name] = (
            read_number(rope, spelling, name, problems, known=HF_ROPE_KEYS, section=section) if rope else None
        )
    problems += _rope_problems(section, rope) + _contradictions(document, values)
    return values


def unknown_huggingface_keys(document: Mapping[str, Any]) -> list[str]:
    """Keys that are neither mathematics nor known metadata, inside the rotary settings too."""
    unknown = [name for name in document if name not in HF_KNOWN_KEYS]
    section, rope = _rope_section(document, [])
    return unknown + [f"{section}.{name}" for name in rope if name not in HF_ROPE_KEYS]


def _rope_section(document: Mapping[str, Any], problems: list[str]) -> tuple[str, dict[str, Any]]:
    """Name and content of the rotary settings, `rope_theta` from beside them included."""
    present = {name: document[name] for name in _HF_ROPE_SECTIONS if document.get(name) is not None}
    problems += [
        f"{name} must be an object, not {shown(settings)}"
        for name, settings in present.items()
        if not isinstance(settings, dict)
    ]
    if not present:
        named = next((name for name in _HF_ROPE_SECTIONS if name in document), None)
        problems.append("rope_scaling (or rope_parameters) is missing" if named is None else f"{named} is null")
    sections = {name: dict(settings) for name, settings in present.items() if isinstance(settings, dict)}
    if "rope_theta" in document:
        theta = document["rope_theta"]
        problems += [
            f"{name}.rope_theta = {shown(settings['rope_theta'])} contradicts rope_theta = {shown(theta)}"
            for name, settings in sections.items()
            if settings.setdefault("rope_theta", theta) != theta
        ]
    if len(sections) == len(_HF_ROPE_SECTIONS) and sections["rope_parameters"] != sections["rope_scaling"]:
        problems.append("rope_parameters and rope_scaling contradict each other")
    return next(iter(sections.items()), ("rope_scaling", {}))


def _rope_problems(section: str, rope: Mapping[str, Any]) -> list[str]:
    if not rope:
        return []
    problems = []
    kind = rope.get("rope_type", rope.get("type"))
    if kind != "yarn":
        problems.append(f"{section}.rope_type must be 'yarn', not {shown(kind)}")
    if rope.get("truncate") is not False:
        # transformers takes a missing `truncate` as true, which rounds the ramp: frequencies up to 76 % off.
        found = f"not {shown(rope['truncate'])}" if "truncate" in rope else "and is missing"
        problems.append(f"{section}.truncate must be false, {found}")
    problems += [
        f"{section}.{name} must be {neutral!r} or missing, not {shown(rope[name])}"
        for name, neutral in _HF_ROPE_FIXED.items()
        if rope.get(name) not in (None, neutral)
    ]
    factor, attention = rope.get("factor"), rope.get("attention_factor")
    if attention is not None and isinstance(factor, int | float) and factor > 0:
        usual = rope_concentration(factor)
        if not isinstance(attention, int | float) or not (
            usual - ATTENTION_FACTOR_TOLERANCE <= attention <= usual + ATTENTION_FACTOR_TOLERANCE  # of any int
        ):
            problems.append(f"{section}.attention_factor = {shown(attention)} differs from YaRN's {usual:.6f}")
    return problems


def _contradictions(document: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name} must be {fixed!r}, not {shown(document[name])}"
        for name, fixed in _HF_FIXED.items()
        if name in document and document[name] != fixed
    ]
    context = document.get("initial_context_length")
    if context is not None and values["initial_context_length"] not in (None, context):
        problems.append(
            f"initial_context_length = {shown(context)} contradicts "
            f"original_max_position_embeddings = {values['initial_context_length']!r}"
        )
    layers, kinds = values["num_hidden_layers"], document.get("layer_types")
    if kinds is not None and layers is not None and not _alternate(kinds, layers):
        problems.append(f"layer_types must alternate sliding_attention, full_attention over {layers} layers")
    return problems


def _alternate(kinds: object, layers: int) -> bool:
    # The length first: an absurd number of layers must not be listed.
    return isinstance(kinds, list) and len(kinds) == layers and kinds == layer_types(layers)


def write_huggingface(
    values: Mapping[str, Any], source: Mapping[str, Any], *, is_source_huggingface: bool
) -> dict[str, Any]:
    """The source, if it is of this dialect, brought up to date; otherwise the published keys, sorted.

    Metadata of a source in the other dialect is carried over.
    """
    if is_source_huggingface:
        return _brought_up_to_date(values, source)
    extra = {name: value for name, value in source.items() if name not in NUMBERS}
    tokens = _HARMONY_TOKENS if values["vocab_size"] == _HARMONY_VOCABULARY else {}
    rope = {theirs: values[ours] for ours, theirs in _HF_ROPE_SPELLINGS.items() if ours != "rope_theta"}
    rope |= {"beta_fast": float(rope["beta_fast"]), "beta_slow": float(rope["beta_slow"])}
    document = {**_HF_DEFAULTS, **tokens, **extra}
    document |= {theirs: values[ours] for ours, spellings in _HF_SPELLINGS.items() for theirs in spellings}
    document |= {
        "initial_context_length": values["initial_context_length"],
        "layer_types": layer_types(values["num_hidden_layers"]),
        "max_position_embeddings": _positions(values),
        "rope_scaling": {**rope, "rope_type": "yarn", "truncate": False},
        "rope_theta": values["rope_theta"],
    }
    return copy.deepcopy(dict(sorted(document.items())))


def _brought_up_to_date(values: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(dict(source))
    ours_of = {theirs: ours for ours, spellings in _HF_SPELLINGS.items() for theirs in spellings}
    ours_of |= {"initial_context_length": "initial_context_length", "rope_theta": "rope_theta"}
    for theirs, ours in ours_of.items():
        if theirs in document:
            document[theirs] = kept_spelling(document[theirs], values[ours])
    for section in _HF_ROPE_SECTIONS:
        for ours, theirs in _HF_ROPE_SPELLINGS.items():
            if theirs in (document.get(section) or {}):
                document[section][theirs] = kept_spelling(document[section][theirs], values[ours])
    if "layer_types" in document:
        document["layer_types"] = layer_types(values["num_hidden_layers"])
    was = parse_huggingface(source, [])
    if "max_position_embeddings" in document and _positions(was) != _positions(values):
        document["max_position_embeddings"] = _positions(values)
    return document


def _positions(values: Mapping[str, Any]) -> int:
    return round(float(values["initial_context_length"] * max(values["rope_scaling_factor"], 1.0)))
