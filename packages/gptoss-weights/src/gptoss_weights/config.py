"""GptOssConfig: the geometry of a checkpoint, and what makes one possible.

The config belongs to the checkpoint. It holds what the mathematics needs and carries along what
else its JSON said, so that either dialect comes back as it was read (`config_dialects`).
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptoss_weights.config_dialects import huggingface_document, mathematics_keys, openai_document, parse_document
from gptoss_weights.config_dialects.numbers import (
    EITHER_NUMBERS,
    NUMBERS,
    RMS_NORM_EPS,
    SWIGLU_ALPHA,
    WHOLE_NUMBERS,
)
from gptoss_weights.errors import CheckpointError
from gptoss_weights.json_files import load_json_object
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.wording import shown
from gptoss_weights.yarn import inverse_frequencies, yarn_ramp

__all__ = ["GPT_OSS_20B", "GPT_OSS_120B", "RMS_NORM_EPS", "SWIGLU_ALPHA", "GptOssConfig"]

MAX_LAYERS = 4096  # a typing error must not make a schema of a billion names
LARGEST_SIZE = 2**31 - 1  # of any other axis
LARGEST_NUMBER = 3e38  # float32, in which the mathematics is done, ends a little above


@dataclasses.dataclass(frozen=True, kw_only=True)
class GptOssConfig:
    """Every number that the forward pass needs, named as in OpenAI's `original/config.json`.

    Sizes count elements, `sliding_window` and `initial_context_length` count tokens. `document` is
    the JSON that it was read from, if it was; it takes no part in equality.

    Raises:
        CheckpointError: a number is out of range, or two contradict each other; all at once.

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
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        problems = [problem for name in NUMBERS if (problem := _number_problem(name, getattr(self, name)))]
        if not problems:
            for name in NUMBERS:
                object.__setattr__(self, name, _normal_form(name, getattr(self, name)))
            problems = _contradictions(self)
        if problems:
            raise CheckpointError("the config is not possible: " + "; ".join(problems))

    @property
    def metadata(self) -> dict[str, Any]:
        """What the JSON said beyond the mathematics: `architectures`, token ids and so on."""
        used = mathematics_keys(self.document)
        return {name: copy.deepcopy(value) for name, value in self.document.items() if name not in used}

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

    def inverse_frequencies(self) -> np.ndarray:
        """Radians per position of each rotary pair, float32 [H/2]; see `gptoss_weights.inverse_frequencies`."""
        return inverse_frequencies(
            head_dim=self.head_dim,
            rope_theta=self.rope_theta,
            initial_context_length=self.initial_context_length,
            scaling_factor=self.rope_scaling_factor,
            beta=self.rope_ntk_beta,
            alpha=self.rope_ntk_alpha,
        )

    def is_sliding(self, layer: int) -> bool:
        """Whether a layer sees only the last `sliding_window` keys: the even ones do."""
        return layer % 2 == 0

    @staticmethod
    def read(path: Path) -> "GptOssConfig":
        """Reads a `config.json` in either dialect.

        Raises:
            CheckpointError: not JSON, or a key is missing, misspelled, mistyped or contradictory.
        """
        document = load_json_object(path, what="the config", fix="Give its place with --config.")
        return GptOssConfig.from_json(document, where=str(path))

    @staticmethod
    def from_json(document: Mapping[str, Any], *, where: str = "config") -> "GptOssConfig":
        """Builds a config from a parsed `config.json` in either dialect; `where` names it in errors.

        Raises:
            CheckpointError: a key is missing, misspelled, mistyped or contradictory; all at once.
        """
        values = parse_document(document, where=where)
        try:
            return GptOssConfig(**values, document=copy.deepcopy(dict(document)))
        except CheckpointError as error:
            raise CheckpointError(error.what, where=where) from None

    def numbers(self) -> dict[str, int | float]:
        """The sixteen numbers of the mathematics and nothing else, by their name in `original/config.json`.

        Equal configs give equal text as JSON too: whatever the spelling, sizes are ints, rope_theta,
        alpha and beta are ints where they are whole, and the rest are floats, as published.
        """
        return {name: getattr(self, name) for name in NUMBERS}

    def to_openai(self) -> dict[str, Any]:
        """The flat dialect of `original/config.json`: as it was read, or in the published order."""
        return openai_document(self.numbers(), self.document)

    def to_huggingface(self) -> dict[str, Any]:
        """The dialect of transformers: as it was read, or with the published keys, sorted."""
        return huggingface_document(self.numbers(), self.document)


def _number_problem(name: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{name} must be a number, not {shown(value)}"
    largest = MAX_LAYERS if name == "num_hidden_layers" else LARGEST_SIZE
    if name in WHOLE_NUMBERS:
        if isinstance(value, float) and not value.is_integer():
            return f"{name} must be a whole number, not {value}"
        return None if 1 <= value <= largest else f"{name} must lie between 1 and {largest}, not {_shown(value)}"
    smallest = 1.0 if name == "rope_theta" else 0.0  # its logarithm divides
    if smallest < value <= LARGEST_NUMBER:
        return None
    return f"{name} must be a finite number above {smallest:g} in float32, not {_shown(value)}"


def _shown(value: float) -> str:
    """A number in a few characters, also an int beyond all floats."""
    try:
        return f"{value:.6g}"
    except OverflowError:
        return f"{'-' if value < 0 else ''}1e{math.log10(abs(value)):.0f}"


def _normal_form(name: str, value: float) -> float:
    """One type for each number, that of the published files, however it was spelled."""
    if name in WHOLE_NUMBERS or (name in EITHER_NUMBERS and value == int(value)):
        return int(value)
    return float(value)


def _contradictions(config: GptOssConfig) -> list[str]:
    c = config
    problems = []
    if c.experts_per_token > c.num_experts:
        problems.append(f"experts_per_token = {c.experts_per_token} exceeds num_experts = {c.num_experts}")
    if c.num_attention_heads % c.num_key_value_heads:
        problems.append(
            f"num_attention_heads = {c.num_attention_heads} is no multiple of "
            f"num_key_value_heads = {c.num_key_value_heads}"
        )
    if c.head_dim % 2:
        problems.append(f"head_dim = {c.head_dim} is odd, but the rotary embedding turns halves")
    problems += [
        f"{name} = {getattr(c, name)} is no multiple of the MXFP4 block of {MXFP4_BLOCK_SIZE}"
        for name in ("hidden_size", "intermediate_size")
        if getattr(c, name) % MXFP4_BLOCK_SIZE
    ]
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


_PUBLISHED: Mapping[str, Any] = {
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
GPT_OSS_20B = GptOssConfig(num_hidden_layers=24, num_experts=32, **_PUBLISHED)
GPT_OSS_120B = GptOssConfig(num_hidden_layers=36, num_experts=128, **_PUBLISHED)
