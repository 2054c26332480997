"""Going home: what a run has trained as a checkpoint, lazily, in whatever format it is to be written.

Only the parameters of the newest checkpoint of a run are read, not the optimizer's moments, and the base is
opened where the run's config names it.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    GptOssConfig,
    GptOssWarning,
    Index,
    Mxfp4Tensor,
    QuantizationError,
)

from gptoss_train.adapters import Adapter, adapter_of, merged
from gptoss_train.checkpoints import SavedRun, read_saved_parameters, read_saved_run
from gptoss_train.config import TrainConfig
from gptoss_train.parameters import canonical_name, is_stacked
from gptoss_train.reading import parse_config
from gptoss_train.saved_arrays import SavedArray
from gptoss_train.setup import Method, open_base

__all__ = ["FinishedRun", "open_run", "quantization_summary", "warn_of_numbers_that_are_none"]

MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that was saved.

    Attributes:
        folder: Where it is.
        step: After which step it was saved.
        config: Its config.
        method: Its command.
        base: What it started from.
        parameters: What it has trained, to be read part by part.
    """

    folder: str
    step: int
    config: TrainConfig
    method: Method
    base: Checkpoint
    parameters: Mapping[str, SavedArray]

    def adapter(self) -> Adapter:
        """What LoRA has made; warns of factors that hold what is no number.

        Raises:
            CheckpointError: the run was no LoRA.
        """
        if self.method != "lora":
            raise CheckpointError(
                "the run has no adapter",
                where=self.folder,
                expected="a run of lora",
                found=self.method,
                fix="`gptoss-train export` writes its checkpoint.",
            )
        factors = {name: saved[()] for name, saved in self.parameters.items()}
        warn_of_numbers_that_are_none(name for name, value in factors.items() if not np.isfinite(value).all())
        return adapter_of(factors, rank=self.config.lora.rank, alpha=self.config.lora.alpha)

    def checkpoint(self) -> Checkpoint:
        """The model as it is after the run; what LoRA has made is merged in."""
        if self.method == "lora":
            return merged(self.base, self.adapter())
        return _TrainedCheckpoint(self.base, self.parameters)


def open_run(folder: str, *, base: Path | str | None = None) -> FinishedRun:
    """Reads what the newest checkpoint of a run holds.

    Args:
        folder: The run's, or its URL.
        base: Where the checkpoint is that it started from, if no longer where its config says.

    Raises:
        CheckpointError: there is no such run, or no such base.
    """
    saved = read_saved_run(folder)
    config, method = _identity(saved, folder)
    if base is not None:
        config = dataclasses.replace(config, model=str(base))
    checkpoint = open_base(config, method)
    geometry = GptOssConfig(**saved.run["geometry"])
    if checkpoint.config != geometry:
        raise CheckpointError("the base is of another geometry than the run", where=config.model)
    return FinishedRun(
        folder=folder,
        step=saved.step,
        config=config,
        method=method,
        base=checkpoint,
        parameters=read_saved_parameters(folder, saved.shapes),
    )


def _identity(saved: SavedRun, folder: str) -> tuple[TrainConfig, Method]:
    try:
        return parse_config(TrainConfig, saved.run["config"], where=folder), saved.run["method"]
    except KeyError as error:
        raise CheckpointError(f"the checkpoint of the run says nothing of its {error}", where=folder) from None


def warn_of_numbers_that_are_none(names: Iterable[str]) -> None:
    """Names the parameters that hold some, if there are any."""
    found = sorted(names)
    if not found:
        return
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    warnings.warn(
        f"the run has trained parameters to what is no finite number: {', '.join(found[:MOST_NAMED])}{more}",
        GptOssWarning,
        stacklevel=3,
    )


def quantization_summary(errors: Mapping[str, QuantizationError]) -> QuantizationError | None:
    """The error over all tensors that were encoded; None if none was."""
    total: QuantizationError | None = None
    for error in errors.values():
        total = error if total is None else total + error
    return total


class _TrainedCheckpoint(Checkpoint):
    """Trained parameters over the checkpoint that they come from, which gives what was frozen.

    Attributes:
        nonfinite: Names of those that were read and hold what is no finite number.
    """

    format = "trained"

    def __init__(self, base: Checkpoint, parameters: Mapping[str, SavedArray]) -> None:
        self.config, self.side_files, self._base = base.config, base.side_files, base
        self.nonfinite: set[str] = set()
        self._places: dict[str, tuple[SavedArray, int | None]] = {}
        for name, saved in parameters.items():
            for row in range(saved.shape[0]) if is_stacked(name) else [None]:
                self._places[canonical_name(name, row or 0)] = saved, row

    def array_dtype(self, name: str) -> np.dtype | None:
        return self._places[name][0].dtype if name in self._places else self._base.array_dtype(name)

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name not in self._places:
            return self._base.read(name, index)
        saved, row = self._places[name]
        values = saved[index if row is None else (row, *index)]
        if not np.isfinite(values).all():
            self.nonfinite.add(name)
        return values
