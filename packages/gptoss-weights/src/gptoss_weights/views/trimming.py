"""trimmed: the first layers, and the first experts, of a checkpoint."""

import dataclasses

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.views.base import View

__all__ = ["trimmed"]


def trimmed(checkpoint: Checkpoint, *, layers: int | None = None, experts: int | None = None) -> Checkpoint:
    """The same checkpoint with its first layers, and its first experts, only.

    Embedding, final norm and unembedding stay, so what comes out runs; it is a smaller model of the
    same kind, for tests and benchmarks, not the same model made cheaper. Fewer experts means fewer
    rows of the router and of every expert tensor; as many are chosen per token as before.

    Args:
        checkpoint: Any.
        layers: How many layers to keep; all by default.
        experts: How many experts to keep in each layer, at least as many as are chosen per token.

    Raises:
        ValueError: it has not so many, or too few would be left.
    """
    config = checkpoint.config
    layers = config.num_hidden_layers if layers is None else layers
    experts = config.num_experts if experts is None else experts
    if not 1 <= layers <= config.num_hidden_layers:
        raise ValueError(f"of {config.num_hidden_layers} layers, between 1 and all can be kept, not {layers}")
    if not config.experts_per_token <= experts <= config.num_experts:
        raise ValueError(
            f"of {config.num_experts} experts, between {config.experts_per_token} (as many as a token takes) "
            f"and all can be kept, not {experts}"
        )
    if (layers, experts) == (config.num_hidden_layers, config.num_experts):
        return checkpoint
    return _Trimmed(checkpoint, layers, experts)


class _Trimmed(View):
    def __init__(self, source: Checkpoint, layers: int, experts: int) -> None:
        super().__init__(source, layers, experts)
        self.config = dataclasses.replace(source.config, num_hidden_layers=layers, num_experts=experts)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if not self._is_cut(name):
            return self.source.read(name, index)
        experts = self.specs[name].shape[0]
        first, *rest = index or (slice(None),)
        if isinstance(first, slice):
            kept = range(experts)[first]
            stop = kept.stop if kept.stop >= 0 else None  # backwards down to the first
            return self.source.read(name, (slice(kept.start, stop, kept.step), *rest))
        return self.source.read(name, (range(experts)[first], *rest))

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        is_cut = self._is_cut(name)
        stored = self.source.stored(name)
        if stored is None or not is_cut:
            return stored
        experts = self.specs[name].shape[0]
        if isinstance(stored, StoredMxfp4):
            return StoredMxfp4(blocks=stored.blocks.rows(0, experts), scales=stored.scales.rows(0, experts))
        return stored.rows(0, experts)

    def array_dtype(self, name: str) -> np.dtype | None:
        return self.source.array_dtype(self.specs[name].name)

    def _is_cut(self, name: str) -> bool:
        """Whether fewer rows are left of the tensor than the source has.

        Raises:
            KeyError: it belongs to a layer that was left out.
        """
        return self.specs[name].shape[0] != self.source.specs[name].shape[0]
