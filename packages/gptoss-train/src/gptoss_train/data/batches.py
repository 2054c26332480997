"""Batches from rows: arrays with segments and positions, the same over all hosts together however many there are."""

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from gptoss_weights import CheckpointError

from gptoss_train.batch import Batch
from gptoss_train.data.rows import Row, RowIterator
from gptoss_train.data.statistics import DataStatistics

__all__ = ["BatchIterator", "make_batch"]

MOST_NAMED = 8  # samples that an error names


class BatchIterator(grain.DatasetIterator[Batch]):  # type: ignore[misc]  # grain ships no types
    """Batches, with grain's `get_state` and `set_state`; Orbax and grain can save it.

    Every host reads all rows and takes its share of each batch, so that the batch and the position do not
    depend on their number. The last batch is filled up with rows of padding.

    Args:
        records: The parent of `rows`, which grain closes with this iterator.
        rows: The rows.
        batch_size: Rows of a batch, over all shards.
        sequence_length: Tokens in a row.
        shard_index: Which share of each batch is taken.
        shard_count: In how many shares it is divided.
        identity: Says what a position belongs to; that of other data is refused.
    """

    def __init__(
        self,
        records: grain.DatasetIterator[Any],
        rows: RowIterator,
        *,
        batch_size: int,
        sequence_length: int,
        shard_index: int,
        shard_count: int,
        identity: Callable[[], str],
    ) -> None:
        super().__init__(records)
        self._rows, self._identity = rows, identity
        self._batch_size, self._length = batch_size, sequence_length
        share = batch_size // shard_count
        self._share = slice(shard_index * share, (shard_index + 1) * share)
        self._asked = 0, rows.get_state()  # for how many batches, and the position before the last of them

    @property
    def statistics(self) -> DataStatistics:
        """What has been read so far, by all shards together."""
        return self._rows.statistics

    def __next__(self) -> Batch:
        self._asked = self._asked[0] + 1, self._rows.get_state()
        rows: list[Row] = []
        while len(rows) < self._batch_size:
            try:
                rows.append(next(self._rows))
            except StopIteration:
                if not rows:
                    raise
                break
        samples = [sample for row in rows for sample in row]
        if not any(sample.trained_tokens for sample in samples):
            names = list(dict.fromkeys(sample.origin for sample in samples))
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            raise CheckpointError(
                "there is nothing to learn in a whole batch",
                where=", ".join(names[:MOST_NAMED]) + more,
                expected="a token that counts in the loss",
                found=f"{sum(map(len, samples))} tokens, none of which does",
                fix="See `gptoss-train preview`; raise sequence_length if answers are cut off, correct "
                "data.conversation, or leave such samples out with data.without_loss=drop.",
            )
        rows += [()] * (self._batch_size - len(rows))
        return make_batch(rows[self._share], self._length)

    def get_state(self) -> dict[str, Any]:
        """The position, in JSON's values, the same on all shards."""
        return {"identity": self._identity(), "rows": self._rows.get_state()}

    def get_state_after(self, batches: int) -> dict[str, Any]:
        """The position behind so many batches since the beginning, or since `set_state`.

        Args:
            batches: As many as were asked for, or one less: the last one was broken off, or came too late.
        """
        asked, before = self._asked
        if batches not in (asked - 1, asked):
            raise ValueError(f"the position behind batch {batches} is not known, when {asked} were asked for")
        return {"identity": self._identity(), "rows": self._rows.get_state() if batches == asked else before}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position.

        Raises:
            CheckpointError: it was taken in other data, or in more epochs of it.
        """
        if state.get("identity") != self._identity():
            raise CheckpointError(
                "the position in the data was taken in other data",
                expected=f"the data of identity {self._identity()}",
                found=state.get("identity"),
                fix="Give the data, data config, sequence_length and seed of that run, or start the data anew.",
            )
        try:
            self._rows.set_state(state["rows"])
        except (ValueError, IndexError, StopIteration) as error:
            raise CheckpointError(
                "the position in the data lies behind its end",
                found=str(error) or None,
                fix="Give no fewer epochs than it was saved with.",
            ) from None
        self._asked = 0, self._rows.get_state()

    def __str__(self) -> str:
        return f"BatchIterator(batch_size={self._batch_size}, sequence_length={self._length}, share={self._share})"


def make_batch(rows: Sequence[Row], length: int) -> Batch:
    """Rows as arrays; what no sample stands on is padding: segment, weight and all else 0.

    Args:
        rows: The samples of each row.
        length: T, tokens in a row.
    """
    shape = len(rows), length
    batch = Batch(*(np.zeros(shape, np.float32 if name == "weights" else np.int32) for name in Batch._fields))
    for place, row in enumerate(rows):
        start = 0
        for segment, sample in enumerate(row, 1):
            part = place, slice(start, start + len(sample))
            batch.tokens[part], batch.targets[part], batch.weights[part] = sample.tokens, sample.targets, sample.weights
            batch.segments[part] = segment
            batch.positions[part] = np.arange(len(sample))
            start += len(sample)
    return batch
