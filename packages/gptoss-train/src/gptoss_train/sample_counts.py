"""What becomes of the samples of a run: counted in its metrics, and said when the first does not count whole."""

from collections.abc import Callable

from gptoss_train.data import DataStatistics

__all__ = ["HELD_OUT", "SampleCounts", "sample_metrics", "statistics_of"]

HELD_OUT = "evaluation_"
"""What the keys of held-out samples begin with in a line of metrics."""


def statistics_of(source: object) -> DataStatistics | None:
    """What has been read so far of data that count their samples in `statistics`; None where nobody counts."""
    found = getattr(source, "statistics", None)
    return found if isinstance(found, DataStatistics) else None


def sample_metrics(found: DataStatistics | None, prefix: str = "") -> dict[str, int]:
    """The counts as a line of metrics has them; nothing where nobody counts."""
    if found is None:
        return {}
    return {
        f"{prefix}samples": found.samples,
        f"{prefix}samples_cut": found.cut,
        f"{prefix}samples_dropped": found.dropped,
        f"{prefix}samples_without_loss": found.without_loss,
    }


class SampleCounts:
    """The counts of the data's iterator, from the run's first step on, for a position in the data has them too.

    Args:
        source: The iterator, or an evaluation of held-out data; one without `statistics` counts nothing.
        say: Called with a sentence when for the first time a sample is cut, dropped, or teaches nothing.
        is_held_out: Whether the samples are measured, and not learnt from.
    """

    def __init__(self, source: object, say: Callable[[str], object], *, is_held_out: bool = False) -> None:
        self._source, self._say, self._is_held_out = source, say, is_held_out
        found = self.statistics
        self._is_said = found is not None and not found.is_whole

    @property
    def statistics(self) -> DataStatistics | None:
        """What has been read so far; None where nobody counts."""
        return statistics_of(self._source)

    def metrics(self) -> dict[str, int]:
        """What a step's line has of them."""
        return sample_metrics(self.statistics, HELD_OUT if self._is_held_out else "")

    def note(self) -> None:
        """Says it if a sample has become no whole one, once in a run."""
        found = self.statistics
        if self._is_said or found is None or found.is_whole:
            return
        self._is_said = True
        if self._is_held_out:
            self._say(
                f"not every held-out sample is measured whole: {found.losses()}; "
                "see evaluation.data.overlong and evaluation.data.without_loss"
            )
            return
        self._say(
            f"not every sample is learnt whole: so far {found.losses()}; "
            "see `gptoss-train preview`, data.overlong and data.without_loss"
        )
