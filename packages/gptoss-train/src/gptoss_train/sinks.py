"""Where metrics go besides the file: TensorBoard, and Weights & Biases, each behind an extra."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gptoss_weights import MissingDependencyError

from gptoss_train.config import TrainConfig

__all__ = ["MetricSink", "open_sinks", "scalars"]


class MetricSink(Protocol):
    """Takes the lines of the steps."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Takes a line."""

    def close(self) -> None:
        """Hands on what it still has."""


def open_sinks(config: TrainConfig, folder: Path) -> list[MetricSink]:
    """Those that a config names.

    Raises:
        MissingDependencyError: without the extra.
    """
    sinks: list[MetricSink] = []
    if config.log.tensorboard:
        sinks.append(_TensorBoard(folder / "tensorboard"))
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
    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "log.tensorboard needs tensorboardX", fix="Install gptoss-train[tensorboard]."
            ) from None
        self._writer = SummaryWriter(str(folder))

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
        self._run: Any = wandb.init(
            project=project, id=config.run_name, name=config.run_name, resume="allow", config=dataclasses.asdict(config)
        )

    def write(self, line: Mapping[str, Any]) -> None:
        self._run.log(dict(scalars(line)), step=line["step"])

    def close(self) -> None:
        self._run.finish()
