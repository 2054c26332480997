"""The preview: samples as the model will see them, before any training, as one HTML page."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from gptoss_weights.durable_files import write_durably
from gptoss_weights.text import Tokenizer

from gptoss_train.data.dataset import Dataset
from gptoss_train.preview.content import PreviewContent, gather_preview

__all__ = ["PreviewContent", "gather_preview", "write_preview"]

SHOWN_SAMPLES = 20
MOST_RECORDS = 10_000


def write_preview(
    dataset: Dataset,
    path: Path,
    *,
    tokenizer: Tokenizer | None = None,
    title: str = "Training data",
    samples: int = SHOWN_SAMPLES,
    records: int = MOST_RECORDS,
) -> PreviewContent:
    """Writes the page of a dataset's first epoch, in the order of training.

    Args:
        dataset: What is to be trained on.
        path: The file to write or to replace.
        tokenizer: Spells the tokens; without one they are shown as numbers.
        title: What stands at the head of the page.
        samples: How many samples are shown token by token.
        records: After so many records the statistics stop, at the end of a packing window.

    Returns:
        What the page shows.

    Raises:
        CheckpointError: a record is not what it should be.
        OSError: the page cannot be written.
    """
    content = gather_preview(dataset, samples=samples, records=records)
    with _quiet_matplotlib():
        from gptoss_train.preview.page import preview_page  # matplotlib takes a second

        page = preview_page(content, tokenizer, title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, page.encode())
    return content


@contextlib.contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """Keeps to itself that matplotlib builds its font cache on first use, or finds no place for one."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
