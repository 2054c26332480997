"""Evaluation: the mean loss over held-out rows, without learning from them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from gptoss_weights import CheckpointError

from gptoss_train.batch import Batch
from gptoss_train.data import DataStatistics
from gptoss_train.parameters import Parameters
from gptoss_train.placing import place_rows
from gptoss_train.sample_counts import statistics_of
from gptoss_train.setup import Run
from gptoss_train.step import make_evaluation

__all__ = ["Evaluation"]


class Evaluation:
    """Held-out data, and the compiled loss on them.

    Args:
        run: Of `set_up`.
        batches: Gives the batches from the beginning, each time it is called.
    """

    def __init__(self, run: Run, batches: Callable[[], Iterable[Batch]]) -> None:
        self._batches = batches
        self.statistics: DataStatistics | None = None
        """What was read for the newest loss; None before the first, and where the data do not count it."""
        self._most = run.config.evaluation.batches
        self._sum_losses: Callable[[Parameters, Mapping[str, Any], Batch], tuple[jax.Array, jax.Array]] = (
            make_evaluation(run.split, run.config.loss, quantization_aware=run.config.run.quantization_aware)
        )

    def loss(self, parameters: Parameters, run: Run) -> float:
        """Mean cross-entropy over all targets by their weights; no finite number where the model gives none.

        Raises:
            CheckpointError: there is none.
        """
        total = weights = 0.0
        batches = iter(self._batches())
        for number, batch in enumerate(batches, 1):
            found, weight = self._sum_losses(parameters, run.frozen, place_rows(batch, run))
            total, weights = total + float(found), weights + float(weight)
            if number == self._most:
                break
        self.statistics = statistics_of(batches)
        if weights == 0:
            raise CheckpointError("the held-out data hold nothing to learn", where="evaluation.data")
        return total / weights
