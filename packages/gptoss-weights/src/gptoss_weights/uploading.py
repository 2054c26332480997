"""Writes an Orbax tree to where nothing can be renamed: an object store, or whatever TensorStore opens.

    <url>/.upload.json   what is being written, and which arrays are complete; removed at the end

What makes the tree a checkpoint comes after its arrays, so an interrupted upload is none; the same
call goes on after the last array that was complete, and ends in the same objects. The manifest comes
last of all and is made by reading everything back. No lock is held: of two processes that upload
different things to one place the second is refused, unless both begin in the same moment.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from blake3 import blake3

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.formats.orbax.reader import open_orbax
from gptoss_weights.formats.orbax.writer import OrbaxWriter
from gptoss_weights.json_files import parse_json_object
from gptoss_weights.manifest import MANIFEST_NAME, FileEntry, assemble_manifest

__all__ = ["upload_orbax"]

_STATE = ".upload.json"


def upload_orbax(
    checkpoint: Checkpoint,
    url: str,
    *,
    is_scanned: bool,
    job: Mapping[str, str] | None,
    side_files: Mapping[str, Path],
    progress: Callable[[int], object],
) -> None:
    """Writes a tree, the files that travel along, and the manifest.

    Args:
        checkpoint: What to write, its experts plain.
        url: Where to.
        is_scanned: Whether layers are stacked in pairs.
        job: What decides the bytes of the output; None if that cannot be known, and nothing is taken up.
        side_files: File name → path.
        progress: Called with the number of bytes after each array, and after each that was there before.

    Raises:
        CheckpointError: something else is there already.
        NetworkError: the server does not answer, or does not let us in.
        ValueError, MissingDependencyError: as `save_checkpoint`.
    """
    folder = Location.at(url)
    state = _State.begin(folder, job)
    writer = OrbaxWriter(checkpoint, is_scanned=is_scanned)
    for key, nbytes, write in writer.families(folder):
        if key not in state.done:
            write()
            state.record(key)
        progress(nbytes)
    for name, source in side_files.items():
        folder.write(name, source.read_bytes())
    for name, content in writer.texts().items():
        folder.write(name, content)
        progress(len(content))
    folder.write(MANIFEST_NAME, _manifest_text(url, folder).encode())
    folder.delete(_STATE)


class _State:
    """What is complete of an upload, kept beside it."""

    def __init__(self, folder: Location, job: str | None, done: list[str]) -> None:
        self._folder, self._job, self.done = folder, job, done

    @classmethod
    def begin(cls, folder: Location, job: Mapping[str, str] | None) -> "_State":
        """Takes up the upload that was interrupted here, or begins one where nothing is.

        Raises:
            CheckpointError: something else is there.
        """
        identity = None if job is None else hashlib.sha256(repr(sorted(job.items())).encode()).hexdigest()
        found = folder.read(_STATE)
        if found is not None:
            document = parse_json_object(found, what="the note of an interrupted upload", where=f"{folder}/{_STATE}")
            if identity is not None and document.get("job") == identity:
                return cls(folder, identity, [str(key) for key in document.get("done", ())])
            raise CheckpointError(
                "an upload of something else was interrupted here, or is on its way",
                where=folder,
                fix="Choose another target, or remove it first.",
            )
        if folder.keys():
            raise CheckpointError("the target is not empty", where=folder, fix="Choose another, or remove it first.")
        state = cls(folder, identity, [])
        state._write()
        return state

    def record(self, key: str) -> None:
        """Notes that an array is complete."""
        self.done.append(key)
        self._write()

    def _write(self) -> None:
        self._folder.write(_STATE, json.dumps({"job": self._job, "done": self.done}).encode())


def _manifest_text(url: str, folder: Location) -> str:
    entries = {}
    for key in set(folder.keys()) - {_STATE, MANIFEST_NAME}:
        content = folder.read(key)
        assert content is not None, f"{key} is listed"
        entries[key] = FileEntry(nbytes=len(content), parts={0: blake3(content).hexdigest()})
    return assemble_manifest(open_orbax(url, config=None), entries).to_text()
