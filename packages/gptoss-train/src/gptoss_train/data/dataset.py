"""A dataset: a source, read into samples, in an order, as rows and as batches."""

import functools
import hashlib
from dataclasses import replace
from typing import Any

import grain

from gptoss_train.data.batches import BatchIterator
from gptoss_train.data.config import DataConfig, HuggingFaceConfig
from gptoss_train.data.reading import ReadRecord, RecordReader
from gptoss_train.data.records import RecordSource
from gptoss_train.data.rows import RowIterator

__all__ = ["Dataset"]

THREADS = 2  # that read ahead, where nothing is said
MOST_AHEAD = 1024  # records that they read ahead


class Dataset:
    """What `open_dataset` opens: batches by iterating over it, each iterator from the beginning.

    Args:
        source: The records.
        reader: Makes samples of them.
        config: What is learnt from.
        batch_size: Rows of a batch, over all shards.
        sequence_length: Tokens in a row.
        seed: What the order follows from.
        shard_index: Which share of each batch is taken.
        shard_count: In how many shares it is divided.
    """

    def __init__(
        self,
        source: RecordSource,
        reader: RecordReader,
        config: DataConfig,
        *,
        batch_size: int,
        sequence_length: int,
        seed: int,
        shard_index: int,
        shard_count: int,
    ) -> None:
        self.config, self.sequence_length, self.batch_size = config, sequence_length, batch_size
        self._source, self._reader, self._seed = source, reader, seed
        self._shard_index, self._shard_count = shard_index, shard_count
        end = len(source) if config.take is None else min(len(source), config.skip + config.take)
        self._chosen = slice(config.skip, end)
        self.records_per_epoch = end - config.skip
        """Records that one epoch has."""

    def __iter__(self) -> BatchIterator:
        records = self._records(self.config)
        return BatchIterator(
            records,
            self._row_iterator(records),
            batch_size=self.batch_size,
            sequence_length=self.sequence_length,
            shard_index=self._shard_index,
            shard_count=self._shard_count,
            identity=lambda: self._identity,
        )

    def rows(self) -> RowIterator:
        """The rows of the first epoch, all shards' together: for those who look at the samples."""
        return self._row_iterator(self._records(replace(self.config, epochs=1)))

    def _records(self, config: DataConfig) -> grain.DatasetIterator[ReadRecord]:
        records: grain.MapDataset[Any] = grain.MapDataset.source(self._source)[self._chosen]
        if config.shuffle:
            records = records.shuffle(self._seed % 2**32)
        records = records.repeat(config.epochs).map(self._reader)
        threads = config.threads
        if threads is None:
            threads = 0 if config.source == "synthetic" else THREADS
        # While a window is learnt from, the next one is read. All that is to be read ahead is asked for at once.
        ahead = min(config.packing_window, self.records_per_epoch, MOST_AHEAD) if threads else 0
        options = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
        return records.to_iter_dataset(options).__iter__()

    def _row_iterator(self, records: grain.DatasetIterator[ReadRecord]) -> RowIterator:
        return RowIterator(
            records,
            records_per_epoch=self.records_per_epoch,
            sequence_length=self.sequence_length,
            packing=self.config.packing,
            window=self.config.packing_window,
            shuffle_seed=self._seed if self.config.shuffle else None,
        )

    @functools.cached_property
    def _identity(self) -> str:
        """A digest of all that decides which row comes when, but for the files' names and the number of epochs.

        The records' own digest reads them once more, so it is made when a position is first asked for.
        """
        same = replace(
            self.config, source="synthetic", files=(), huggingface=HuggingFaceConfig(), epochs=None, threads=0
        )
        decisive = (self.config.source, same, self._seed, self.sequence_length, len(self._source))
        return hashlib.sha256(repr((*decisive, self._source.digest())).encode()).hexdigest()[:16]
