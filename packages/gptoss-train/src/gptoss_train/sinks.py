"""Where metrics go besides the file: TensorBoard, and Weights & Biases, each behind an extra."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gptoss_weights import MissingDependencyError, NetworkError
from gptoss_weights.places import as_place

from gptoss_train.config import TrainConfig
from gptoss_train.errors import ConfigError
from gptoss_train.run_places import run_folder

__all__ = ["MetricSink", "open_sinks", "scalars"]

LONGEST_NAME = 100  # of the 128 characters that Weights & Biases lets an id have
HASH_DIGITS = 8


class MetricSink(Protocol):
    """Takes the lines of the steps."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Takes a line."""

    def close(self) -> None:
        """Hands on what it still has."""


def open_sinks(config: TrainConfig, folder: Path, *, after_step: int = 0) -> list[MetricSink]:
    """Those that a config names.

    Args:
        config: Of the run.
        folder: Where its metrics are.
        after_step: The step that the run goes on after.

    Raises:
        MissingDependencyError: without the extra.
        ConfigError: Weights & Biases does not take the project or the name, or nobody has logged in.
        NetworkError: it does not answer.
    """
    sinks: list[MetricSink] = []
    if config.log.tensorboard:
        sinks.append(_TensorBoard(folder / "tensorboard", after_step))
    if config.log.wandb_project is not None:
        sinks.append(_WeightsAndBiases(config, config.log.wandb_project))
    return sinks


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a line, groups by `group/name`; of the expert load the largest share of each layer."""
    for key, value in line.items():
        if key == "expert_load":
            yield from ((f"expert_load_max/layer_{layer}", max(shares)) for layer, shares in enumerate(value))
        elif isinstance(value, Mapping):
            yield from ((f"{key}/{name}", part) for name, part in value.items() if part is not None)
        elif value is not None and key != "step":
            yield key, value


class _TensorBoard:
    def __init__(self, folder: Path, after_step: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "log.tensorboard needs tensorboardX", fix="Install gptoss-train[tensorboard]."
            ) from None
        # What stands there of later steps, which are done again, is not to be shown.
        self._writer = SummaryWriter(str(folder), purge_step=after_step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line):
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, config: TrainConfig, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingDependencyError("log.wandb_project needs wandb", fix="Install gptoss-train[wandb].") from None
        try:
            self._run: Any = wandb.init(
                project=project,
                id=_run_id(config),
                name=config.run_name,
                resume="allow",
                config=dataclasses.asdict(config),
            )
        except wandb.errors.AuthenticationError as error:
            raise _refused(error) from error
        except wandb.errors.CommError as error:
            raise NetworkError(f"Weights & Biases does not answer ({error})", where="log.wandb_project") from error
        except wandb.errors.Error as error:
            raise _refused(error) from error

    def write(self, line: Mapping[str, Any]) -> None:
        self._run.log(dict(scalars(line)), step=line["step"])

    def close(self) -> None:
        self._run.finish()


def _run_id(config: TrainConfig) -> str:
    """Signs that an id may have, the same whenever the run goes on, and another for a run of that name elsewhere."""
    place = as_place(run_folder(config))
    where = str(place.absolute() if isinstance(place, Path) else place)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", config.run_name)[:LONGEST_NAME]
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:HASH_DIGITS]}"


def _refused(error: Exception) -> ConfigError:
    return ConfigError(
        f"Weights & Biases refuses the run ({error})",
        where="log.wandb_project",
        fix="Log in with `wandb login`, or set WANDB_MODE=offline; or leave log.wandb_project out.",
    )
