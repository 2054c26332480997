"""open_checkpoint: from a path to a lazy checkpoint, whatever its layout."""

from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path | str, *, config: Path | str | None = None) -> Checkpoint:
    """Opens a checkpoint folder and holds every name, shape and dtype against the schema.

    The layout is recognised from the tensors' names: OpenAI's `original/` or Hugging Face's with
    MXFP4 experts. A folder that holds both, as the published repositories do, opens as Hugging
    Face; its `original/` opens as OpenAI. Only headers are read.

    Args:
        path: The folder.
        config: A `config.json` in either dialect that stands elsewhere.

    Raises:
        CheckpointError: no such folder, or whatever in it is missing, damaged or mismatched, all of
            it in one message that names file and tensor.
    """
    from gptoss_weights.formats.registry import open_format

    folder = Path(path)
    if not folder.exists():
        raise CheckpointError("there is no such folder", where=folder)
    if not folder.is_dir() and folder.suffix != ".msgpack":
        raise CheckpointError("a checkpoint is a folder, but this is a file", where=folder, fix="Give its folder.")
    return open_format(folder, config=None if config is None else Path(config))
