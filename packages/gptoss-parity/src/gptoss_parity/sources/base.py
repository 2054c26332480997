"""The one thing that every source does, and what all of them write into their traces."""

import abc
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from gptoss_weights import Checkpoint, CheckpointError, layer_probe, probe_specs

from gptoss_parity.trace import Trace, TraceMetadata

__all__ = [
    "DTYPES",
    "Dtype",
    "ExpertChoices",
    "GenerativeSource",
    "LoadingSource",
    "Runner",
    "Source",
    "check_tokens",
    "forced_choices",
    "metadata_of",
    "require_dtype",
    "wanted_probes",
]

type Dtype = Literal["float32", "bfloat16"]
type ExpertChoices = Mapping[str, np.ndarray]  # holds every `layers.{i}.router_indices` [T, k]; a Trace does
DTYPES: tuple[Dtype, ...] = get_args(Dtype.__value__)


class Source(Protocol):
    """An implementation of GPT-OSS, or a file of what one computed."""

    @property
    def name(self) -> str:
        """What traces and reports call it."""

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """Runs one forward pass over a prompt and returns every probe.

        Args:
            checkpoint: The weights.
            tokens: The prompt, T token ids.
            dtype: What to compute in.

        Raises:
            CheckpointError: a token is outside the vocabulary, or there is none.
            ValueError: the source does not compute in `dtype`.
        """


class Runner(Protocol):
    """A loaded model that can be run over one prompt after the other."""

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        """One forward pass; the arguments are those of `LoadingSource.record`."""


class LoadingSource(abc.ABC):
    """A source that loads a checkpoint once and then runs any number of prompts.

    Attributes:
        can_replay: Whether it can be made to take other experts than its router chose.
    """

    can_replay: bool = True

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What traces and reports call it."""

    @property
    @abc.abstractmethod
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""

    @abc.abstractmethod
    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> Runner:
        """The model that a checkpoint describes.

        Raises:
            ValueError: the source does not compute in `dtype`.
        """

    def record(
        self,
        checkpoint: Checkpoint,
        tokens: Sequence[int],
        *,
        dtype: Dtype = "float32",
        block_debug: bool = False,
        choices: ExpertChoices | None = None,
    ) -> Trace:
        """Runs one forward pass over a prompt.

        Args:
            checkpoint: The weights.
            tokens: The prompt, T token ids.
            dtype: What to compute in.
            block_debug: Whether to record what happens inside attention and experts too.
            choices: The experts to take at each layer in place of the router's own choice, best first;
                router logits stay the model's own, gate weights are the softmax of its logits of these.

        Raises:
            CheckpointError: a token is outside the vocabulary, or there is none.
            ValueError: the source does not compute in `dtype`, or cannot be made to take other experts.
        """
        return self.load(checkpoint, dtype=dtype).run(tokens, block_debug=block_debug, choices=choices)


class GenerativeSource(Source, Protocol):
    """A source that also continues a prompt."""

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The ids of a greedy continuation, without the prompt, exactly `max_new_tokens` of them."""


def check_tokens(checkpoint: Checkpoint, tokens: Sequence[int]) -> np.ndarray:
    """The prompt as int64 [T].

    Raises:
        CheckpointError: it is empty, or a token is outside the checkpoint's vocabulary.
    """
    ids = [int(token) for token in tokens]
    vocabulary = checkpoint.config.vocab_size
    if not ids:
        raise CheckpointError("the prompt has no tokens", where="tokens", expected="one row of token ids")
    for place, token in enumerate(ids):
        if not 0 <= token < vocabulary:
            raise CheckpointError(
                "a token is outside the vocabulary",
                where=f"tokens[{place}]",
                expected=f"0 … {vocabulary - 1}",
                found=token,
            )
    return np.array(ids, np.int64)


def forced_choices(
    checkpoint: Checkpoint, tokens: np.ndarray, choices: ExpertChoices | None
) -> list[np.ndarray] | None:
    """The experts to take, one int64 [T, k] a layer; None where the router decides.

    Raises:
        CheckpointError: a layer's choices are missing, of another shape, or no experts.
    """
    if choices is None:
        return None
    config = checkpoint.config
    shape = (len(tokens), config.experts_per_token)
    forced = []
    for layer in range(config.num_hidden_layers):
        name = layer_probe(layer, "router_indices")
        if name not in choices:
            raise CheckpointError("the choices of experts to replay lack a layer", where=name)
        indices = np.asarray(choices[name])
        if indices.shape != shape:
            raise CheckpointError(
                "the choices of experts to replay have another shape", where=name, expected=shape, found=indices.shape
            )
        if indices.min() < 0 or indices.max() >= config.num_experts:
            raise CheckpointError(
                "the choices of experts to replay name no expert",
                where=name,
                expected=f"0 … {config.num_experts - 1}",
                found=int(indices.min() if indices.min() < 0 else indices.max()),
            )
        forced.append(indices.astype(np.int64))
    return forced


def metadata_of(
    checkpoint: Checkpoint,
    *,
    source: str,
    dtype: Dtype,
    distributions: Iterable[str],
    options: Mapping[str, str],
    is_replayed: bool = False,
) -> TraceMetadata:
    """Provenance of a trace that is being recorded now; `distributions` are named as on PyPI."""
    return TraceMetadata(
        source=source,
        dtype=dtype,
        checkpoint_digest=checkpoint.digest(),
        config=checkpoint.config,
        versions={name: importlib.metadata.version(name) for name in distributions},
        options=dict(options) | ({"experts": "replayed"} if is_replayed else {}),
    )


def wanted_probes(checkpoint: Checkpoint, tokens: np.ndarray, *, block_debug: bool = False) -> tuple[str, ...]:
    """Every probe that a model computes, in the order of the forward pass."""
    specs = probe_specs(checkpoint.config, len(tokens), block_debug=block_debug)
    return tuple(name for name in specs if name != "tokens")


def require_dtype(source: Source, dtype: Dtype) -> None:
    """Raises ValueError when a source does not compute in `dtype`."""
    if dtype not in source.dtypes:
        raise ValueError(f"the source {source.name!r} computes in {', '.join(source.dtypes)}, not in {dtype}")
