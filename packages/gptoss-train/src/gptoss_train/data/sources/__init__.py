"""Where records come from: one file a source."""

from gptoss_train.data.config import DataConfig
from gptoss_train.data.records import RecordSource
from gptoss_train.data.sources.files import matching_files
from gptoss_train.data.sources.json_lines import JsonLinesSource
from gptoss_train.data.sources.synthetic import SyntheticSource
from gptoss_train.data.sources.text_files import TextFilesSource

__all__ = ["open_source"]


def open_source(config: DataConfig, *, vocabulary_size: int, seed: int) -> RecordSource:
    """Opens the source that a config names.

    Args:
        config: The config.
        vocabulary_size: Number of token ids there are; synthetic sequences are made of these.
        seed: What synthetic sequences follow from.

    Raises:
        CheckpointError: a file is not there, is empty, or is not what it should be; or synthetic sequences would
            need more tokens than there are.
        MissingDependencyError: a Hugging Face dataset, without the extra `datasets`.
        NetworkError: the Hub does not give it.
    """
    if config.source == "synthetic":
        return SyntheticSource(config.synthetic, vocabulary_size=vocabulary_size, seed=seed)
    if config.source == "huggingface":
        from gptoss_train.data.sources.huggingface import HuggingFaceSource

        return HuggingFaceSource(config.huggingface)
    files = matching_files(config.files)
    return TextFilesSource(files, document=config.document) if config.source == "text" else JsonLinesSource(files)
