"""What the manifest in a folder says of a range of a file, so that it need not be hashed again.

A copy under such a checksum is held, by `verify`, to what the source was when its manifest was
written, and not to what it may have become since: a bit that has flipped in the source meanwhile is
copied, and then found.
"""

import contextlib
from pathlib import Path

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError
from gptoss_weights.manifest.artefact import MANIFEST_NAME
from gptoss_weights.manifest.document import Manifest, read_manifest

__all__ = ["RecordedChecksums"]


class RecordedChecksums:
    """Looks checksums up in the manifests that stand beside files, and reads each manifest once."""

    def __init__(self) -> None:
        self._manifests: dict[Path, Manifest | None] = {}

    def __call__(self, stored: StoredArray) -> str | None:
        """BLAKE3 of a stored array, or None if no manifest has it as a part of its file."""
        manifest = self._manifest_of(stored.path)
        entry = None if manifest is None else manifest.files.get(stored.path.name)
        if entry is None or stored.path.stat().st_size != entry.nbytes:
            return None
        return entry.checksum_of(stored.offset, stored.offset + stored.nbytes)

    def _manifest_of(self, path: Path) -> Manifest | None:
        if path not in self._manifests:
            self._manifests[path] = None
            with contextlib.suppress(CheckpointError):  # none, or damaged, or of another version
                self._manifests[path] = read_manifest(path.with_name(MANIFEST_NAME))
        return self._manifests[path]
