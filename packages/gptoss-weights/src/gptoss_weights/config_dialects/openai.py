"""OpenAI's dialect, `original/config.json`: flat, and exactly what the mathematics needs."""

from collections.abc import Mapping
from typing import Any

from gptoss_weights.config_dialects.numbers import NUMBERS, kept_spelling, read_number

__all__ = ["parse_openai", "write_openai"]


def parse_openai(document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Name → number; what is wrong is added to `problems`."""
    return {name: read_number(document, name, name, problems, known=NUMBERS) for name in NUMBERS}


def write_openai(values: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """The source, itself of this dialect, brought up to date; without one, the published order."""
    if not source:
        return {name: values[name] for name in NUMBERS}
    return {name: kept_spelling(value, values[name]) if name in NUMBERS else value for name, value in source.items()}
