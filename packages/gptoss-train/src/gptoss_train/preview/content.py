"""What a preview shows: the samples and rows of a dataset's first epoch, and what can be counted of them."""

from dataclasses import dataclass

from gptoss_train.data.dataset import Dataset
from gptoss_train.data.rows import Row
from gptoss_train.data.samples import Sample
from gptoss_train.data.statistics import DataStatistics

__all__ = ["PreviewContent", "gather_preview"]

SHOWN_ROWS = 12
MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class PreviewContent:
    """What was found.

    Args:
        statistics: Of all that was read.
        lengths: Tokens of each sample.
        samples: The first of them, one after the other.
        rows: The first rows.
        sequence_length: Tokens in a row.
        records_per_epoch: Records there are; `statistics.records` of them were read.
        empty_batches: Batches in which nothing is learnt; training stops at the first.
        without_loss: Where samples are from of which nothing is learnt, the first few.
    """

    statistics: DataStatistics
    lengths: tuple[int, ...]
    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    sequence_length: int
    records_per_epoch: int
    empty_batches: int
    without_loss: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all records were read."""
        return self.statistics.records == self.records_per_epoch


def gather_preview(dataset: Dataset, *, samples: int, records: int) -> PreviewContent:
    """Reads a dataset's first epoch, or its beginning.

    Args:
        dataset: The dataset.
        samples: How many samples to keep.
        records: After so many records, reading stops at the end of a packing window.

    Raises:
        CheckpointError: a record is not what it should be.
    """
    rows = dataset.rows()
    lengths: list[int] = []
    shown: list[Sample] = []
    first: list[Row] = []
    without_loss: list[str] = []
    count, empty_batches, trained_in_batch = 0, 0, 0
    for count, row in enumerate(rows, 1):
        lengths += map(len, row)
        shown += row[: max(0, samples - len(shown))]
        if len(first) < SHOWN_ROWS:
            first.append(row)
        silent = [sample.origin for sample in row if not sample.trained_tokens]
        without_loss += silent[: max(0, MOST_NAMED - len(without_loss))]
        trained_in_batch += sum(sample.trained_tokens for sample in row)
        if count % dataset.batch_size == 0:
            empty_batches += trained_in_batch == 0
            trained_in_batch = 0
        if count == rows.statistics.rows and rows.statistics.records >= records:
            break
    else:
        if count % dataset.batch_size and not trained_in_batch:
            empty_batches += 1
    return PreviewContent(
        statistics=rows.statistics,
        lengths=tuple(lengths),
        samples=tuple(shown),
        rows=tuple(first),
        sequence_length=dataset.sequence_length,
        records_per_epoch=dataset.records_per_epoch,
        empty_batches=empty_batches,
        without_loss=tuple(without_loss),
    )
