"""open_dataset: from a config to batches."""

from typing import TYPE_CHECKING

from gptoss_weights import CheckpointError
from gptoss_weights.text import Tokenizer

from gptoss_train.data.config import DataConfig

if TYPE_CHECKING:
    from gptoss_train.data.dataset import Dataset

__all__ = ["open_dataset"]


def open_dataset(
    config: DataConfig,
    *,
    vocabulary_size: int,
    tokenizer: Tokenizer | None,
    batch_size: int,
    sequence_length: int,
    seed: int,
    shard_index: int = 0,
    shard_count: int = 1,
) -> "Dataset":
    """Opens what a config names; nothing is tokenized yet.

    Args:
        config: What is learnt from.
        vocabulary_size: V, the number of ids that the model knows.
        tokenizer: The model's; None will do for synthetic sequences.
        batch_size: B, rows of a batch over all shards; each yields `batch_size / shard_count` of them, and put
            together in the order of the shards they are the batch that one shard alone would yield.
        sequence_length: T, tokens in a row.
        seed: What all order, and every synthetic sequence, follows from; 0 or more.
        shard_index: Which share of each batch is taken; processes whose devices hold the same rows take the same one.
        shard_count: In how many shares it is divided.

    Raises:
        CheckpointError: a file is not what it should be, or there is no record.
        MissingDependencyError: a Hugging Face dataset, without the extra `datasets`.
        NetworkError: the Hub does not give it.
        ValueError: a number is out of its range, or there is no tokenizer where there is text.
    """
    if min(batch_size, shard_count) < 1 or batch_size % shard_count or not 0 <= shard_index < shard_count:
        raise ValueError(
            f"a batch of {batch_size} rows cannot be shared by {shard_count} hosts, this one being {shard_index}; "
            "expected batch_size a multiple of shard_count, and shard_index below it"
        )
    if sequence_length < 2 or seed < 0:
        raise ValueError(f"expected sequence_length 2 or more and seed 0 or more, found {sequence_length} and {seed}")
    from gptoss_train.data.dataset import Dataset  # grain takes a second, and a config needs none of it
    from gptoss_train.data.reading import RecordReader
    from gptoss_train.data.sources import open_source

    reader = RecordReader(config, vocabulary_size=vocabulary_size, tokenizer=tokenizer, sequence_length=sequence_length)
    source = open_source(config, vocabulary_size=vocabulary_size, seed=seed)
    if config.skip >= len(source):
        raise CheckpointError(
            "all records are skipped", where="data.skip", expected=f"less than {len(source)}", found=config.skip
        )
    return Dataset(
        source,
        reader,
        config,
        batch_size=batch_size,
        sequence_length=sequence_length,
        seed=seed,
        shard_index=shard_index,
        shard_count=shard_count,
    )
