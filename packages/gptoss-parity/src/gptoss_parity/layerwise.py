"""A layer at a time, for models that do not fit: any source runs each layer as a model of its own.

The trick is a view of the checkpoint. A layer becomes a model of one layer whose vocabulary is the
prompt: its embedding holds the residual stream before that layer, a row for each token, and the tokens
are 0, 1, 2, …. What it reports as its layer's output is the next embedding. Layer 0 of any GPT-OSS
slides; for a layer that does not, the view's window is as long as the prompt. Nothing is computed
otherwise than in the whole model, and memory holds one layer, and embedding and unembedding beside the
last one.
"""

import dataclasses
from collections.abc import Sequence

import ml_dtypes
import numpy as np
from gptoss_weights import Checkpoint, Index, Mxfp4Tensor, StoredArray, StoredMxfp4, layer_probe

from gptoss_parity.sources.base import Dtype, ExpertChoices, LoadingSource, check_tokens
from gptoss_parity.trace import Trace

__all__ = ["LayerwiseSource", "layer_as_model"]

_EMBEDDING, _UNEMBEDDING = "model.embed_tokens.weight", "lm_head.weight"
_FIRST_LAYER = "model.layers.0."
_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True)
class LayerwiseSource(LoadingSource):
    """Records with `source`, one layer after the other; its traces are those of the whole model."""

    source: LoadingSource

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return self.source.name

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return self.source.dtypes

    @property
    def can_replay(self) -> bool:  # type: ignore[override]  # as the source can
        """Whether it can be made to take other experts than its router chose."""
        return self.source.can_replay

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_LayerwiseRunner":
        """Loads nothing yet."""
        return _LayerwiseRunner(self.source, checkpoint, dtype)


@dataclasses.dataclass(frozen=True)
class _LayerwiseRunner:
    source: LoadingSource
    checkpoint: Checkpoint
    dtype: Dtype

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        prompt = check_tokens(self.checkpoint, tokens)
        rows = [self.checkpoint.read_array(_EMBEDDING, (slice(token, token + 1),)) for token in prompt.tolist()]
        x = np.concatenate(rows).astype(np.float32)
        arrays: dict[str, np.ndarray] = {}
        count = self.checkpoint.config.num_hidden_layers
        piece = None
        for layer in range(count):
            is_last = layer == count - 1
            view = layer_as_model(self.checkpoint, layer, x.astype(_DTYPES[self.dtype]), has_head=is_last)
            forced = None
            if choices is not None:
                name = layer_probe(layer, "router_indices")
                forced = {layer_probe(0, "router_indices"): choices[name]} if name in choices else {}
            piece = self.source.record(
                view, range(len(prompt)), dtype=self.dtype, block_debug=block_debug, choices=forced
            )
            for name, array in piece.items():
                if name.startswith("layers."):
                    arrays[layer_probe(layer, name.rpartition(".")[2])] = array
                elif is_last or (name == "embedding" and layer == 0):
                    arrays.setdefault(name, array)
            x = piece[layer_probe(0, "output")]
        assert piece is not None
        vocabulary = self.checkpoint.config.vocab_size
        arrays["logits"] = arrays["logits"][:, :vocabulary]  # a prompt may be longer than the vocabulary
        metadata = dataclasses.replace(
            piece.metadata,
            checkpoint_digest=self.checkpoint.digest(),
            config=self.checkpoint.config,
            options={**piece.metadata.options, "memory": "one layer at a time"},
        )
        return Trace(prompt, arrays, metadata)


def layer_as_model(checkpoint: Checkpoint, layer: int, x: np.ndarray, *, has_head: bool) -> Checkpoint:
    """One layer as a model, for the residual stream x [T, D] before it and the tokens 0 … T − 1.

    Args:
        checkpoint: The whole model.
        layer: Which of its layers.
        x: In the dtype that the model will compute in.
        has_head: Whether its logits are the whole model's; otherwise they mean nothing and cost nothing.
    """
    return _LayerCheckpoint(checkpoint, layer, x, has_head=has_head)


class _LayerCheckpoint(Checkpoint):
    def __init__(self, source: Checkpoint, layer: int, x: np.ndarray, *, has_head: bool) -> None:
        config = source.config
        # A vocabulary as large as it must be: for the head all of it, and for the prompt its tokens.
        vocabulary = max(len(x), config.vocab_size if has_head else 0)
        self.config = dataclasses.replace(
            config,
            num_hidden_layers=1,
            vocab_size=vocabulary,
            sliding_window=config.sliding_window if config.is_sliding(layer) else len(x),
        )
        self.format = "one layer"
        self.side_files = {}
        self._source, self._layer = source, layer
        self._embedding = np.zeros((vocabulary, config.hidden_size), x.dtype)
        self._embedding[: len(x)] = x
        self._has_head = has_head

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name == _EMBEDDING:
            return self._embedding[(*index, ...)]
        if name == _UNEMBEDDING:
            return self._head()[(*index, ...)]
        return self._source.read(self._source_name(name), index)

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        is_ours = name in (_EMBEDDING, _UNEMBEDDING)
        return None if is_ours else self._source.stored(self._source_name(name))

    def array_dtype(self, name: str) -> np.dtype | None:
        if name == _EMBEDDING:
            dtype: np.dtype = self._embedding.dtype
            return dtype
        return self._source.array_dtype(self._source_name(name))

    def digest(self) -> str:
        """Nothing that is worth reading a layer for; the trace gets the whole checkpoint's."""
        return f"layer {self._layer}"

    def _head(self) -> np.ndarray:
        rows, width = self._embedding.shape
        head = np.zeros((rows, width), self._source.array_dtype(_UNEMBEDDING))
        if self._has_head:
            whole = self._source.read_array(_UNEMBEDDING)
            if len(whole) == rows:
                return whole
            head[: len(whole)] = whole
        return head

    def _source_name(self, name: str) -> str:
        if name.startswith(_FIRST_LAYER):
            return f"model.layers.{self._layer}.{name.removeprefix(_FIRST_LAYER)}"
        return name
