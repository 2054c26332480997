"""The two JSON dialects of a config: parsed strictly, written back as they were read.

A key that the mathematics needs must be there and must not contradict another. Known metadata of
transformers is carried along in silence, any other key with a warning.
"""

import difflib
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Literal

from gptoss_weights.config_dialects.huggingface import (
    HF_KNOWN_KEYS,
    HF_MATHEMATICS,
    HF_ROPE_KEYS,
    KNOWN_METADATA,
    parse_huggingface,
    unknown_huggingface_keys,
    write_huggingface,
)
from gptoss_weights.config_dialects.numbers import LONGEST_KEY, MOST_HINTS, NUMBERS
from gptoss_weights.config_dialects.openai import parse_openai, write_openai
from gptoss_weights.errors import CheckpointError, GptOssWarning
from gptoss_weights.wording import shown

__all__ = ["Dialect", "dialect_of", "huggingface_document", "mathematics_keys", "openai_document", "parse_document"]

type Dialect = Literal["openai", "huggingface"]

# Hugging Face's dialect names its experts, its rotary settings or itself as OpenAI's never does.
_HUGGINGFACE_MARKS = ("architectures", "model_type", "num_local_experts", "rope_parameters", "rope_scaling")


def dialect_of(document: Mapping[str, Any]) -> Dialect:
    """Which dialect a document is in."""
    return "huggingface" if any(mark in document for mark in _HUGGINGFACE_MARKS) else "openai"


def mathematics_keys(document: Mapping[str, Any]) -> Collection[str]:
    """The top-level keys of a document that the mathematics uses; the rest is metadata."""
    return HF_MATHEMATICS if dialect_of(document) == "huggingface" else NUMBERS


def parse_document(document: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Our name → number, from a document in either dialect; `where` names it in errors.

    Warns:
        GptOssWarning: a key is neither mathematics nor known metadata.

    Raises:
        CheckpointError: keys are missing, misspelled, mistyped or contradictory; all of them at once.
    """
    problems: list[str] = []
    known: Collection[str]
    if dialect_of(document) == "huggingface":
        values = parse_huggingface(document, problems)
        unknown, known = unknown_huggingface_keys(document), HF_KNOWN_KEYS
    else:
        values = parse_openai(document, problems)
        unknown = [name for name in document if name not in NUMBERS and name not in KNOWN_METADATA]
        known = NUMBERS
    if problems:
        fix = "Correct the config, or give another with --config."
        raise CheckpointError("; ".join(problems), where=where, fix=fix)
    for name in unknown[:MOST_HINTS]:
        section, dot, key = name.rpartition(".")  # what stands in a section is like other keys of it
        near = difflib.get_close_matches(key[:LONGEST_KEY], sorted(HF_ROPE_KEYS if dot else known), n=1)
        hint = f"; did you mean {section + dot + near[0]!r}?" if near else ""
        warnings.warn(f"{where}: unknown config key {shown(name)} is kept but not used{hint}", GptOssWarning)
    if len(unknown) > MOST_HINTS:
        rest = len(unknown) - MOST_HINTS
        warnings.warn(f"{where}: {rest} more unknown config keys are kept but not used", GptOssWarning)
    return values


def openai_document(values: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """The flat dialect: the source brought up to date where it is one, otherwise in the published order."""
    return write_openai(values, source if dialect_of(source) == "openai" else {})


def huggingface_document(values: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Hugging Face's dialect: the source brought up to date where it is one, otherwise as published.

    Metadata of a flat source is carried over.
    """
    return write_huggingface(values, source, is_source_huggingface=dialect_of(source) == "huggingface")
