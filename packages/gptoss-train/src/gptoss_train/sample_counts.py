"""What becomes of the samples of a run: counted in its metrics, and said when the first is not learnt whole."""

from collections.abc import Callable

from gptoss_train.data import DataStatistics

__all__ = ["SampleCounts"]


class SampleCounts:
    """The counts of the data's iterator, from the run's first step on: a position in the data has them too.

    Args:
        batches: The iterator; one without `statistics` counts nothing.
        say: Called with a sentence when for the first time a sample is cut, dropped, or teaches nothing.
    """

    def __init__(self, batches: object, say: Callable[[str], object]) -> None:
        self._batches, self._say = batches, say
        found = self.statistics
        self._is_said = found is not None and not found.is_whole

    @property
    def statistics(self) -> DataStatistics | None:
        """What has been read so far; None where nobody counts."""
        found = getattr(self._batches, "statistics", None)
        return found if isinstance(found, DataStatistics) else None

    def metrics(self) -> dict[str, int]:
        """What a step's line has of them."""
        found = self.statistics
        if found is None:
            return {}
        return {
            "samples": found.samples,
            "samples_cut": found.cut,
            "samples_dropped": found.dropped,
            "samples_without_loss": found.without_loss,
        }

    def note(self) -> None:
        """Says it if a sample has become no whole one, once in a run."""
        found = self.statistics
        if self._is_said or found is None or found.is_whole:
            return
        self._is_said = True
        self._say(
            f"not every sample is learnt whole: so far {found.losses()}; "
            "see `gptoss-train preview`, data.overlong and data.without_loss"
        )
