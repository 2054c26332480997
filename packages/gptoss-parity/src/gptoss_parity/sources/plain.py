"""Plain NumPy as a source: no framework, one matrix in memory at a time; the slow way that always works."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from gptoss_weights import Checkpoint

from gptoss_parity.plain_model import PlainModel
from gptoss_parity.sources.base import (
    Dtype,
    ExpertChoices,
    LoadingSource,
    check_tokens,
    forced_choices,
    metadata_of,
    require_dtype,
    wanted_probes,
)
from gptoss_parity.trace import Trace

__all__ = ["PlainSource"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainSource(LoadingSource):
    """Records what `PlainModel` computes; `model` may be a faulty subclass, whose `name` then says so."""

    model: Callable[[Checkpoint], PlainModel] = PlainModel
    name: str = "numpy"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return ("float32",)

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_PlainRunner":
        """The model; nothing is read yet."""
        require_dtype(self, dtype)
        return _PlainRunner(self.name, self.model(checkpoint))


@dataclasses.dataclass(frozen=True)
class _PlainRunner:
    name: str
    model: PlainModel

    def run(self, tokens: Sequence[int], *, block_debug: bool = False, choices: ExpertChoices | None = None) -> Trace:
        checkpoint = self.model.checkpoint
        prompt = check_tokens(checkpoint, tokens)
        wanted = frozenset(wanted_probes(checkpoint, prompt, block_debug=block_debug))
        arrays: dict[str, np.ndarray] = {}

        def record(name: str, value: np.ndarray) -> None:
            if name in wanted:
                arrays[name] = value

        self.model.forward(prompt, record, forced_choices(checkpoint, prompt, choices))
        metadata = metadata_of(
            checkpoint,
            source=self.name,
            dtype="float32",
            distributions=("gptoss-parity", "gptoss-weights", "numpy"),
            options={},
            is_replayed=choices is not None,
        )
        return Trace(prompt, arrays, metadata)
