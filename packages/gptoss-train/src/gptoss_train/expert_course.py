"""The load of the experts over the steps of a run, in no more columns than a plot can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["MOST_COLUMNS", "ExpertCourse", "expert_course"]

MOST_COLUMNS = 300  # a plot is about twice as many pixels wide


@dataclass(frozen=True, eq=False)
class ExpertCourse:
    """Of each layer the share of its assignments that the busiest and the idlest expert get, as it goes.

    Args:
        first: The first step.
        last: The last one.
        largest: Share of the busiest expert, the mean of a column's steps; NaN where none of them has a line.
        smallest: Likewise of the idlest.
    """

    first: int
    last: int
    largest: Float[np.ndarray, "L columns"]
    smallest: Float[np.ndarray, "L columns"]


def expert_course(lines: Sequence[Mapping[str, Any]]) -> ExpertCourse:
    """The course, from the lines of metrics: a column a step, or as many steps a column as it takes.

    Args:
        lines: With `step` and `expert_load`; at least one.
    """
    steps = np.array([line["step"] for line in lines])
    first, last = int(steps.min()), int(steps.max())
    columns = min(last - first + 1, MOST_COLUMNS)
    place = (steps - first) * columns // (last - first + 1)
    counts = np.bincount(place, minlength=columns)
    counts = np.where(counts, counts, np.nan)
    means = []
    for extreme in (max, min):
        sums = np.zeros((len(lines[0]["expert_load"]), columns))
        for column, line in zip(place.tolist(), lines, strict=True):
            sums[:, column] += [extreme(shares) for shares in line["expert_load"]]
        means.append(sums / counts)
    return ExpertCourse(first, last, *means)
