"""The part of a file that has arrived, kept on disk until the rest has: `….incomplete`.

Its name carries the hash of the content that it is a part of, so a file that has changed on the Hub
is never continued from the bytes of another. The hash is taken while bytes arrive; what an earlier
run has left is read once. Bytes go to the file unbuffered: a killed process keeps all of them.
"""

import os
from pathlib import Path
from typing import Self
from urllib.parse import quote

from gptoss_weights.durable_files import sync
from gptoss_weights.hub.content_hash import ContentHash

__all__ = ["PartialFile", "drop_superseded", "has_content", "partial_path"]

SUFFIX = ".incomplete"
_HASH_CHARACTERS = 16  # of the content's hash, in a partial file's name
_READ_BYTES = 1 << 20


def partial_path(folder: Path, path: str, content: ContentHash) -> Path:
    """Where the partial file of a repository's path stands, inside the folder that is kept for them."""
    return folder / f"{quote(path, safe='')}.{content.hexdigest[:_HASH_CHARACTERS]}{SUFFIX}"


def drop_superseded(folder: Path, path: str, content: ContentHash) -> None:
    """Removes what arrived of other contents of a repository's path: the file has changed since."""
    names = f"{quote(path, safe='')}.{'[0-9a-f]' * _HASH_CHARACTERS}{SUFFIX}"
    for partial in folder.glob(names):
        if partial != partial_path(folder, path, content):
            partial.unlink(missing_ok=True)


def has_content(path: Path, nbytes: int, content: ContentHash) -> bool:
    """Whether a file is there and has that size and hash; reads all of it."""
    if not path.is_file() or path.stat().st_size != nbytes:
        return False
    hasher = content.hasher(nbytes)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return hasher.hexdigest() == content.hexdigest


class PartialFile:
    """A file that grows at its end until it has the size and hash that the Hub states.

    An empty one is removed when it is closed.

    Args:
        path: Where it stands; made if it is not there. More bytes than `nbytes` are thrown away.
        nbytes: The size of the whole.
        content: The hash of the whole.

    Attributes:
        arrived: How many bytes there are.
    """

    def __init__(self, path: Path, nbytes: int, content: ContentHash) -> None:
        self.path, self.nbytes, self.content = path, nbytes, content
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self.arrived = 0
        self._hasher = content.hasher(nbytes)
        if path.stat().st_size > nbytes:
            self.restart()
        while piece := self._file.read(_READ_BYTES):
            self._hasher.update(piece)
            self.arrived += len(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.arrived == 0:
            self.drop()

    def append(self, piece: bytes) -> None:
        """Adds the bytes that come next; `OSError` if the disk is full."""
        rest = memoryview(piece)
        while rest:
            written = self._file.write(rest)
            self._hasher.update(rest[:written])
            self.arrived += written
            rest = rest[written:]

    def restart(self) -> None:
        """Throws away what has arrived."""
        self._file.seek(0)
        self._file.truncate()
        self.arrived = 0
        self._hasher = self.content.hasher(self.nbytes)

    def hexdigest(self) -> str:
        """The hash of what has arrived."""
        return self._hasher.hexdigest()

    def publish(self, target: Path) -> None:
        """Gives the file its name, atomically and durably, over whatever stood there."""
        os.fsync(self._file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)
        sync(target.parent)

    def drop(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)
