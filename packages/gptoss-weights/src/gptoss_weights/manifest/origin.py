"""Holds what a conversion decodes, rounds, encodes or cuts to what the source's manifest says.

A copy travels with its recorded checksum, so that damage of the source is found in the copy. What is computed
has new bytes and a new checksum, under which damage would pass for the truth; so it is looked for before.
"""

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.file_hashing import FileRange, hash_ranges
from gptoss_weights.manifest.hashing import stored_halves
from gptoss_weights.manifest.recorded import RecordedChecksums
from gptoss_weights.views.base import View

__all__ = ["refuse_changed_source"]


def refuse_changed_source(checkpoint: Checkpoint, recorded: RecordedChecksums) -> None:
    """Hashes what stands in files of a manifest and would not be copied as it stands.

    Args:
        checkpoint: What is going to be written, view upon view.
        recorded: The checksums of manifests.

    Raises:
        CheckpointError: a tensor is not what it was when its manifest was written.
    """
    source = checkpoint
    while isinstance(source, View):
        source = source.source
    known: dict[FileRange, tuple[str, str]] = {}
    for name in checkpoint:
        copied = stored_halves(checkpoint, name)
        if not copied or any(recorded(half.array) is None for half in copied):
            for _, stored in stored_halves(source, name):
                if (checksum := recorded(stored)) is not None:
                    known[FileRange(stored.path, stored.offset, stored.offset + stored.nbytes)] = name, checksum
    for (place, (name, expected)), found in zip(known.items(), hash_ranges(known), strict=True):
        if found != expected:
            raise CheckpointError(
                f"{name} has changed since the manifest was written",
                where=place.path,
                fix="Fetch the weights again; if they were changed on purpose, remove the manifest first.",
            )
