"""Rows of samples in their order: records from grain, window by window packed and shuffled.

The position is the place of the next record, as grain counts it, where the window began, and the number of its
rows that were handed out. A window has whole records of one epoch only, so it is read again exactly.
"""

from collections.abc import Iterator
from typing import Any, Literal

import grain
import numpy as np
from gptoss_weights import CheckpointError

from gptoss_train.data.packing import pack_rows
from gptoss_train.data.reading import ReadRecord
from gptoss_train.data.samples import Sample
from gptoss_train.data.statistics import DataStatistics

__all__ = ["Row", "RowIterator"]

type Row = tuple[Sample, ...]


class RowIterator(Iterator[Row]):
    """Rows, each of samples that together are no longer than it.

    Args:
        records: What became of the records, in order, epoch after epoch.
        records_per_epoch: How many records an epoch has.
        sequence_length: Tokens in a row.
        packing: How samples share a row.
        window: Samples in a window, but for the last record's; an epoch's last window has fewer.
        shuffle_seed: What the order of a window's rows follows from; None leaves it as it is.
    """

    def __init__(
        self,
        records: grain.DatasetIterator[ReadRecord],
        *,
        records_per_epoch: int,
        sequence_length: int,
        packing: Literal["best_fit", "first_fit", "none"],
        window: int,
        shuffle_seed: int | None,
    ) -> None:
        self._records, self._records_per_epoch = records, records_per_epoch
        self._length, self._packing = sequence_length, packing
        self._window, self._shuffle_seed = window, shuffle_seed
        self._rows: list[Row] = []
        self._next_row = 0
        self._window_start = records.get_state()
        self._before_window = DataStatistics()
        self._statistics = DataStatistics()

    @property
    def statistics(self) -> DataStatistics:
        """What has been packed so far."""
        return self._statistics

    def __next__(self) -> Row:
        while self._next_row == len(self._rows):
            self._window_start, self._before_window = self._records.get_state(), self._statistics
            self._next_row, self._rows = 0, []
            self._rows = self._read_window()  # raises StopIteration at the end
            read = self._statistics.records - self._before_window.records
            if not self._rows and read == self._records_per_epoch:
                raise CheckpointError(
                    "no sample is left in a whole epoch",
                    where="data",
                    expected=f"one of at most {self._length} tokens that says something",
                    found=f"{read} records, {self._statistics.dropped} samples of them too long, "
                    f"{self._statistics.without_loss} with nothing to learn",
                    fix="Raise sequence_length, or set data.overlong to 'cut'.",
                )
        self._next_row += 1
        return self._rows[self._next_row - 1]

    def get_state(self) -> dict[str, Any]:
        """The position, in JSON's values."""
        return {"records": self._window_start, "row": self._next_row, "statistics": self._before_window.counts()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position; the window there is read again.

        Raises:
            IndexError, StopIteration: it lies behind the end of the records.
            ValueError: there is no such row in its window, so the data is another.
        """
        self._records.set_state(state["records"])
        self._window_start = state["records"]
        self._before_window = self._statistics = DataStatistics(**state["statistics"])
        self._next_row, self._rows = 0, []
        if state["row"]:
            self._rows = self._read_window()
            if state["row"] > len(self._rows):
                raise ValueError(f"row {state['row']} of a window that has {len(self._rows)}")
            self._next_row = state["row"]

    def _read_window(self) -> list[Row]:
        number = self._statistics.records  # distinct for each window, and the same when it is read again
        samples: list[Sample] = []
        counted = DataStatistics()
        while len(samples) < self._window:
            try:
                record = next(self._records)
            except StopIteration:
                if counted.records == 0:
                    raise
                break
            samples += record.samples
            counted += DataStatistics(
                records=1,
                samples=len(record.samples),
                tokens=sum(map(len, record.samples)),
                trained_tokens=sum(sample.trained_tokens for sample in record.samples),
                dropped=record.dropped,
                cut=record.cut,
                without_loss=record.without_loss,
            )
            if (number + counted.records) % self._records_per_epoch == 0:
                break
        places = pack_rows(list(map(len, samples)), self._length, strategy=self._packing)
        if self._shuffle_seed is not None:
            order = np.random.default_rng([self._shuffle_seed, number]).permutation(len(places))
            places = [places[place] for place in order]
        self._statistics += counted + DataStatistics(rows=len(places), capacity=len(places) * self._length)
        return [tuple(samples[place] for place in row) for row in places]
