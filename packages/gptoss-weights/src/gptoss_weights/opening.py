"""open_checkpoint: from a path to a lazy checkpoint, whatever its layout."""

from pathlib import Path

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.places import as_place, require_existing

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path | str, *, config: Path | str | None = None) -> Checkpoint:
    """Opens a checkpoint and holds every name, shape and dtype against the schema.

    What it is, is found by looking: OpenAI's `original/`; Hugging Face's layout with packed or plain
    experts; the Flax bundle of the jax2onnx workflow, a `.msgpack` file; MaxText's Orbax trees, behind
    any URL that TensorStore opens too. A folder that holds both published layouts opens as Hugging
    Face; its `original/` opens as OpenAI. Only headers are read.

    Args:
        path: A folder, a `.msgpack` file, or a URL such as `gs://bucket/run/0/items`.
        config: A `config.json` in either dialect that stands elsewhere.

    Raises:
        CheckpointError: no such folder or file, or whatever in it is missing, damaged or mismatched, all of
            it in one message that names file and tensor.
        MissingDependencyError: an Orbax tree, without the extra `orbax`.
        NetworkError: the server behind a URL does not answer.
    """
    from gptoss_weights.formats.registry import open_format

    place = as_place(path)
    if isinstance(place, Path):
        require_existing(place)
    return open_format(place, config=None if config is None else Path(config))
